#include "stats/socket.h"

#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <string.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define SOCKET_MODE 0660
#define BACKLOG 16
#define LOCK_TRIES 100
#define LOCK_PAUSE_NS 10000000	/* 10 ms */

static int fail(struct err *e, const char *what, const struct sockaddr_un *addr)
{
	return err_set(e, STRAND_ESYS, "stats socket \"%s\": %s: %s", addr->sun_path, what,
		       strerror(errno));
}

static int set_address(struct sockaddr_un *addr, const char *path, struct err *e)
{
	size_t len = strlen(path);

	if (len == 0)
		return err_set(e, STRAND_EINVAL, "stats socket: the path is empty");
	if (len >= sizeof(addr->sun_path))
		return err_set(e, STRAND_EINVAL,
			       "stats socket \"%s\": a socket's path has at most %zu bytes, this one has %zu",
			       path, sizeof(addr->sun_path) - 1, len);
	memset(addr, 0, sizeof(*addr));
	addr->sun_family = AF_UNIX;
	memcpy(addr->sun_path, path, len + 1);
	return 0;
}

/* Holds the directory, so that of two daemons that start at once, and both find
 * a dead socket, the second does not remove the first one's new one.  Returns
 * the descriptor that holds it. */
static int lock_directory(const struct sockaddr_un *addr, struct err *e)
{
	static const struct timespec pause = { .tv_nsec = LOCK_PAUSE_NS };
	char path[sizeof(addr->sun_path)];
	int fd;

	memcpy(path, addr->sun_path, sizeof(path));
	fd = open(dirname(path), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0)
		return fail(e, "cannot open its directory", addr);
	for (int i = 0; flock(fd, LOCK_EX | LOCK_NB) < 0; i++) {
		if (errno != EWOULDBLOCK || i == LOCK_TRIES) {
			fail(e, "cannot lock its directory", addr);
			close(fd);
			return STRAND_ESYS;
		}
		nanosleep(&pause, NULL);
	}
	return fd;
}

/* 0 when a socket lies at the address and nobody answers on it. */
static int check_dead(const struct sockaddr_un *addr, struct err *e)
{
	struct stat st;
	int fd, r, saved;

	if (lstat(addr->sun_path, &st) < 0)
		return errno == ENOENT ? 0 : fail(e, "cannot look at it", addr);
	if (!S_ISSOCK(st.st_mode))
		return err_set(e, STRAND_EINVAL,
			       "stats socket \"%s\": there is a file there that is no socket; remove it or set stats.socket to another path",
			       addr->sun_path);
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return fail(e, "cannot make a socket", addr);
	r = connect(fd, (const struct sockaddr *)addr, sizeof(*addr));
	saved = errno;
	close(fd);
	errno = saved;
	if (r < 0 && (errno == ECONNREFUSED || errno == ENOENT))
		return 0;
	/* EAGAIN: its backlog is full, so it lives. */
	if (r < 0 && errno != EAGAIN)
		return fail(e, "cannot tell whether another process listens on it", addr);
	return err_set(e, STRAND_EFULL,
		       "stats socket \"%s\": another process answers on it; stop that one or set stats.socket to another path",
		       addr->sun_path);
}

static int bind_and_listen(struct unix_socket *s, struct err *e)
{
	const struct sockaddr_un *addr = &s->addr;
	struct stat st;
	int r;

	/* The mode before bind, so that the file never has a wider one. */
	if (fchmod(s->fd, SOCKET_MODE) < 0)
		return fail(e, "cannot set the mode", addr);
	r = bind(s->fd, (const struct sockaddr *)addr, sizeof(*addr));
	if (r < 0 && errno == EADDRINUSE) {
		r = check_dead(addr, e);
		if (r < 0)
			return r;
		if (unlink(addr->sun_path) < 0 && errno != ENOENT)
			return fail(e, "cannot remove the one left behind", addr);
		r = bind(s->fd, (const struct sockaddr *)addr, sizeof(*addr));
	}
	if (r < 0)
		return fail(e, "cannot bind", addr);
	/* Again after bind, which took the umask's bits away. */
	if (chmod(addr->sun_path, SOCKET_MODE) < 0 || lstat(addr->sun_path, &st) < 0 ||
	    listen(s->fd, BACKLOG) < 0) {
		fail(e, "cannot listen", addr);
		unlink(addr->sun_path);
		return STRAND_ESYS;
	}
	s->dev = st.st_dev;
	s->ino = st.st_ino;
	return 0;
}

int unix_socket_listen(struct unix_socket *s, const char *path, struct err *e)
{
	int r, lock;

	r = set_address(&s->addr, path, e);
	if (r < 0)
		return r;
	lock = lock_directory(&s->addr, e);
	if (lock < 0)
		return lock;
	s->fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (s->fd < 0) {
		r = fail(e, "cannot make a socket", &s->addr);
	} else {
		r = bind_and_listen(s, e);
		if (r < 0)
			close(s->fd);
	}
	close(lock);
	return r;
}

void unix_socket_unlink(struct unix_socket *s)
{
	struct stat st;

	if (lstat(s->addr.sun_path, &st) == 0 && st.st_dev == s->dev && st.st_ino == s->ino)
		unlink(s->addr.sun_path);
}
