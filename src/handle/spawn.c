#include "handle/spawn.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <string.h>
#include <sys/pidfd.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/beat.h"
#include "handle/command.h"

/* What is made for a start and no longer needed after it. */
struct start {
	struct run_as who;
	struct environment environment;
	struct command command;
	int directory;		/* -1: strandd's own */
	int stdio[3];		/* the process's ends */
	posix_spawn_file_actions_t actions;
	posix_spawnattr_t attributes;
};

void close_fd(int *fd)
{
	if (*fd >= 0)
		close(*fd);
	*fd = -1;
}

void process_release(struct process *p)
{
	close_fd(&p->pidfd);
	close_fd(&p->in);
	close_fd(&p->out);
	close_fd(&p->err);
	p->pid = 0;
}

static int system_error(struct err *e, const char *what, int error)
{
	return err_set(e, STRAND_ESYS, "%s: %s", what, strerrordesc_np(error));
}

/* A pipe end that is not among those that the process's own are put on. */
static int above_stdio(int *fd)
{
	int up = *fd;

	if (up > STDERR_FILENO)
		return 0;
	up = fcntl(*fd, F_DUPFD_CLOEXEC, STDERR_FILENO + 1);
	if (up < 0)
		return STRAND_ESYS;
	close(*fd);
	*fd = up;
	return 0;
}

/* `ours` is the end at index `mine`. */
static int make_pipe(int *ours, int *theirs, int mine)
{
	int ends[2], ret;

	if (pipe2(ends, O_CLOEXEC) < 0)
		return STRAND_ESYS;
	*ours = ends[mine];
	*theirs = ends[!mine];
	ret = above_stdio(ours);
	if (!ret)
		ret = above_stdio(theirs);
	if (!ret && fcntl(*ours, F_SETFL, O_NONBLOCK) < 0)
		ret = STRAND_ESYS;
	return ret;
}

static int make_pipes(struct process *p, struct start *s, struct err *e)
{
	if (make_pipe(&p->in, &s->stdio[0], 1) || make_pipe(&p->out, &s->stdio[1], 0) ||
	    make_pipe(&p->err, &s->stdio[2], 0))
		return system_error(e, "no pipe", errno);
	return 0;
}

static int enter_directory(struct start *s, const char *path, struct err *e)
{
	char what[300];
	int error;

	if (!path)
		return 0;
	s->directory = open(path, O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (s->directory >= 0 && !above_stdio(&s->directory))
		return 0;
	error = errno;
	snprintf(what, sizeof(what), "directory \"%s\"", path);
	return system_error(e, what, error);
}

/* Everything that can be found wrong with the policy before there is a process. */
static int prepare(struct start *s, const struct child_policy *p, struct err *e)
{
	int ret;

	/* The user database may be on a server that is down. */
	beat_allow_ms(BEAT_RESOLVE_MS);
	ret = run_as_find(&s->who, p->user, e);
	beat_now();
	if (!ret)
		ret = enter_directory(s, p->directory, e);
	if (ret)
		return ret;
	if (environment_init(&s->environment, p, &s->who) || command_make(&s->command, p, &s->who))
		return err_set(e, STRAND_ENOMEM, "out of memory");
	return command_check(p->argv[0], s->directory >= 0 ? s->directory : AT_FDCWD,
			     environment_get(&s->environment, "PATH"), e);
}

/* The directory first: what is closed last includes its descriptor. */
static int add_actions(struct start *s)
{
	int r = 0;

	if (s->directory >= 0)
		r = posix_spawn_file_actions_addfchdir_np(&s->actions, s->directory);
	for (int i = 0; !r && i < 3; i++)
		r = posix_spawn_file_actions_adddup2(&s->actions, s->stdio[i], i);
	return r ? r : posix_spawn_file_actions_addclosefrom_np(&s->actions, STDERR_FILENO + 1);
}

static int set_attributes(struct start *s)
{
	const short flags = POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF | POSIX_SPAWN_SETPGROUP;
	sigset_t all, none;
	int r;

	sigfillset(&all);
	sigemptyset(&none);
	r = posix_spawnattr_setsigmask(&s->attributes, &none);
	if (!r)
		r = posix_spawnattr_setsigdefault(&s->attributes, &all);
	if (!r)
		r = posix_spawnattr_setpgroup(&s->attributes, 0);
	return r ? r : posix_spawnattr_setflags(&s->attributes, flags);
}

/* Without a descriptor that tells of its death it cannot be watched. */
static int watch(struct process *p, struct err *e)
{
	int error;

	p->pidfd = pidfd_open(p->pid, 0);
	if (p->pidfd >= 0)
		return 0;
	error = errno;
	kill(-p->pid, SIGKILL);
	while (waitpid(p->pid, NULL, 0) < 0 && errno == EINTR)
		;
	return system_error(e, "no descriptor for a process", error);
}

static int spawn(struct start *s, struct process *p, struct err *e)
{
	int r = add_actions(s);

	if (!r)
		r = set_attributes(s);
	if (!r)
		r = posix_spawnp(&p->pid, s->command.argv[0], &s->actions, &s->attributes,
				 s->command.argv, s->environment.list);
	if (r) {
		p->pid = 0;
		return system_error(e, s->command.argv[0], r);
	}
	return watch(p, e);
}

int process_spawn(struct process *ret, const struct child_policy *policy, struct err *e)
{
	struct start s = { .directory = -1, .stdio = { -1, -1, -1 } };
	struct process p = PROCESS_NONE;
	int r;

	/* Neither fails, says glibc. */
	if (posix_spawn_file_actions_init(&s.actions) || posix_spawnattr_init(&s.attributes))
		return err_set(e, STRAND_ENOMEM, "out of memory");
	r = prepare(&s, policy, e);
	if (!r)
		r = make_pipes(&p, &s, e);
	if (!r)
		r = spawn(&s, &p, e);
	if (r)
		process_release(&p);
	else
		*ret = p;
	for (int i = 0; i < 3; i++)
		close_fd(&s.stdio[i]);
	close_fd(&s.directory);
	posix_spawnattr_destroy(&s.attributes);
	posix_spawn_file_actions_destroy(&s.actions);
	command_release(&s.command);
	environment_release(&s.environment);
	run_as_release(&s.who);
	return r;
}
