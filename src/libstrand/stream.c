#include "libstrand/stream.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"

enum {
	READ_SIZE = 64 * 1024,
	KEEP_SIZE = 1024 * 1024,	/* of memory, between lines */
	HOLD_BYTES = 64 * 1024,		/* of answers: a pipe's worth */
	HOLD_MS = 10,
};

/* Moves `fd` away and puts `instead` in its place. */
static int move(int fd, int instead, int *ret_fd, struct err *e)
{
	int moved = fcntl(fd, F_DUPFD_CLOEXEC, 3);

	if (moved < 0)
		return err_set(e, STRAND_ESYS, "descriptor %d: %s", fd, strerror(errno));
	if (dup2(instead, fd) < 0) {
		int code = errno;

		close(moved);
		return err_set(e, STRAND_ESYS, "descriptor %d: %s", fd, strerror(code));
	}
	*ret_fd = moved;
	return 0;
}

int stream_move_output(struct stream *s, struct err *e)
{
	return s->out < 0 ? move(STDOUT_FILENO, STDERR_FILENO, &s->out, e) : 0;
}

int stream_move_input(struct stream *s, struct err *e)
{
	int null, ret;

	if (s->in >= 0)
		return 0;
	null = open("/dev/null", O_RDONLY | O_CLOEXEC);
	if (null < 0)
		return err_set(e, STRAND_ESYS, "/dev/null: %s", strerror(errno));
	ret = move(STDIN_FILENO, null, &s->in, e);
	close(null);
	return ret;
}

void stream_close(struct stream *s)
{
	if (s->in >= 0)
		close(s->in);
	if (s->out >= 0)
		close(s->out);
	free(s->data);
	buf_release(&s->answers);
	*s = (struct stream){ .in = -1, .out = -1 };
}

/* A pipe whose reader is gone raises SIGPIPE, which is not ours to die of, nor to
 * ignore for the whole program. */
static ssize_t write_quietly(int fd, const char *data, size_t len)
{
	sigset_t pipe_signal, before;
	ssize_t n;
	int code;

	sigemptyset(&pipe_signal);
	sigaddset(&pipe_signal, SIGPIPE);
	pthread_sigmask(SIG_BLOCK, &pipe_signal, &before);
	n = write(fd, data, len);
	code = errno;
	if (n < 0 && code == EPIPE && !sigismember(&before, SIGPIPE))
		sigtimedwait(&pipe_signal, NULL, &(struct timespec){ 0 });
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	errno = code;
	return n;
}

static int write_all(struct stream *s, struct err *e)
{
	size_t done = 0;

	while (done < s->answers.len) {
		ssize_t n = write_quietly(s->out, s->answers.data + done, s->answers.len - done);

		if (n >= 0) {
			done += (size_t)n;
		} else if (errno == EAGAIN) {
			/* whoever started us gave us a pipe that does not wait */
			poll(&(struct pollfd){ .fd = s->out, .events = POLLOUT }, 1, -1);
		} else if (errno != EINTR) {
			return errno == EPIPE ? err_set(e, STRAND_ECONN, "nobody reads the answers any more")
				: err_set(e, STRAND_ESYS, "write: %s", strerror(errno));
		}
	}
	return 0;
}

int stream_flush(struct stream *s, struct err *e)
{
	int ret;

	if (s->answers.failed)
		return err_set(e, STRAND_ENOMEM, "out of memory");
	if (!s->answers.len)
		return 0;
	ret = write_all(s, e);
	if (s->answers.size > KEEP_SIZE)
		buf_release(&s->answers);
	buf_clear(&s->answers);
	return ret;
}

int stream_answered(struct stream *s, int64_t began, bool at_once, struct err *e)
{
	if (!s->held_since)
		s->held_since = began;
	if (!at_once && s->answers.len < HOLD_BYTES && !s->answers.failed &&
	    clock_now() - s->held_since < HOLD_MS * NSEC_PER_MSEC)
		return 0;
	s->held_since = 0;
	return stream_flush(s, e);
}

/* Room for another read, behind what nobody has taken yet. */
static int make_room(struct stream *s, struct err *e)
{
	size_t kept = s->to - s->from, size = s->size;
	char *data = s->data;

	if (s->from) {
		memmove(data, data + s->from, kept);
		s->seen -= s->from;
		s->to = kept;
		s->from = 0;
	}
	if (size > KEEP_SIZE && kept < READ_SIZE)
		size = READ_SIZE * 2;
	while (size - s->to < READ_SIZE)
		size = size ? size * 2 : READ_SIZE * 2;
	if (size == s->size)
		return 0;
	data = realloc(data, size);
	if (!data)
		return err_set(e, STRAND_ENOMEM, "out of memory for a request of more than %zu bytes", s->size);
	s->data = data;
	s->size = size;
	return 0;
}

/* Waits until there is something to read; 0: told to stop. */
static int wait_input(struct stream *s, int stop_fd, struct err *e)
{
	struct pollfd fds[2] = { { .fd = s->in, .events = POLLIN }, { .fd = stop_fd, .events = POLLIN } };
	int timeout = 0;

	for (;;) {
		int n = poll(fds, 2, timeout), ret;

		if (n < 0 && errno != EINTR)
			return err_set(e, STRAND_ESYS, "poll: %s", strerror(errno));
		if (n > 0)
			return !fds[1].revents;
		/* Nobody waits behind the strand that was answered last. */
		s->held_since = 0;
		ret = stream_flush(s, e);
		if (ret)
			return ret;
		fflush(stdout);
		timeout = -1;
	}
}

static int read_more(struct stream *s, int stop_fd, struct err *e)
{
	ssize_t n;
	int ret = make_room(s, e);

	for (;;) {
		if (!ret)
			ret = wait_input(s, stop_fd, e);
		if (ret <= 0)
			return ret;
		n = read(s->in, s->data + s->to, s->size - s->to);
		if (n >= 0)
			break;
		if (errno != EINTR && errno != EAGAIN)
			return err_set(e, STRAND_ESYS, "read: %s", strerror(errno));
		ret = 0;
	}
	s->to += (size_t)n;
	return n > 0;
}

int stream_line(struct stream *s, int stop_fd, char **ret_line, size_t *ret_len, struct err *e)
{
	for (;;) {
		char *line = s->data + s->from, *end = NULL;
		int ret;

		if (s->to > s->seen)
			end = memchr(s->data + s->seen, '\n', s->to - s->seen);
		if (end) {
			*end = '\0';
			*ret_line = line;
			*ret_len = (size_t)(end - line);
			s->from = s->seen = (size_t)(end - s->data) + 1;
			return 1;
		}
		s->seen = s->to;
		ret = read_more(s, stop_fd, e);
		if (ret <= 0)
			return ret;
	}
}
