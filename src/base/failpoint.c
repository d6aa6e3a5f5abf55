#include "base/failpoint.h"

#ifdef ENABLE_FAILPOINTS

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/err.h"
#include "base/log.h"

enum action { ACT_KILL, ACT_STOP, ACT_SLEEP, ACT_HOLD, ACT_ERROR };

static const struct {
	const char *name;
	bool argument;
} actions[] = {
	[ACT_KILL] = { "kill", false },
	[ACT_STOP] = { "stop", false },
	[ACT_SLEEP] = { "sleep", true },
	[ACT_HOLD] = { "hold", true },
	[ACT_ERROR] = { "error", false },
};

struct point {
	const char *name;
	enum action action;
	const char *argument;	/* sleep: milliseconds, hold: file */
	uint64_t at;		/* 0: each passage */
	_Atomic uint64_t passed;
};

enum { POINTS_MAX = 32 };

/* Filled once, before the first look, and kept for the life of the process. */
static pthread_once_t once = PTHREAD_ONCE_INIT;
static struct point points[POINTS_MAX];
static size_t n_points;

/* A test that armed nothing would pass for the wrong reason. */
static void refuse(const char *text)
{
	log_error("STRANDD_FAILPOINTS: cannot read \"%s\"", text);
	exit(EXIT_USAGE);
}

static bool parse_action(struct point *p, char *text)
{
	char *colon = strchr(text, ':');

	if (colon)
		*colon++ = '\0';
	for (size_t i = 0; i < sizeof(actions) / sizeof(actions[0]); i++) {
		if (strcmp(text, actions[i].name) != 0)
			continue;
		p->action = (enum action)i;
		p->argument = colon;
		return actions[i].argument == (colon && *colon);
	}
	return false;
}

/* name=action[:argument][@n] */
static bool parse_point(struct point *p, char *text)
{
	char *equals = strchr(text, '=');
	char *at, *end;

	if (!equals || equals == text)
		return false;
	*equals++ = '\0';
	p->name = text;
	at = strrchr(equals, '@');
	if (at && at[1] >= '0' && at[1] <= '9') {
		errno = 0;
		p->at = strtoull(at + 1, &end, 10);
		if (*end == '\0') {
			if (errno || p->at == 0)
				return false;
			*at = '\0';
		} else {
			p->at = 0;	/* the '@' belongs to a file's name */
		}
	}
	return parse_action(p, equals);
}

static void read_environment(void)
{
	const char *env = getenv("STRANDD_FAILPOINTS");
	char *copy, *save = NULL;

	if (!env || !*env)
		return;
	copy = strdup(env);
	if (!copy)
		refuse(env);
	for (char *one = strtok_r(copy, ";", &save); one; one = strtok_r(NULL, ";", &save)) {
		if (n_points == POINTS_MAX || !parse_point(&points[n_points], one))
			refuse(env);
		n_points++;
	}
}

static void nap(int64_t ms)
{
	struct timespec ts = {
		.tv_sec = ms / 1000,
		.tv_nsec = (ms % 1000) * NSEC_PER_MSEC,
	};

	while (nanosleep(&ts, &ts) < 0 && errno == EINTR)
		;
}

static bool act(const struct point *p)
{
	switch (p->action) {
	case ACT_KILL:
		kill(getpid(), SIGKILL);
		pause();
		return false;
	case ACT_STOP:
		raise(SIGSTOP);	/* this thread's: it goes no step further */
		return false;
	case ACT_SLEEP:
		nap(strtoll(p->argument, NULL, 10));
		return false;
	case ACT_HOLD:
		while (access(p->argument, F_OK) == 0)
			nap(10);
		return false;
	case ACT_ERROR:
		return true;
	}
	return false;
}

bool failpoint_hit(const char *name)
{
	bool failed = false;

	pthread_once(&once, read_environment);
	for (size_t i = 0; i < n_points; i++) {
		struct point *p = &points[i];

		if (strcmp(p->name, name) != 0)
			continue;
		/* Relaxed: only the count itself is shared. */
		if (atomic_fetch_add_explicit(&p->passed, 1, memory_order_relaxed) + 1 == p->at ||
		    p->at == 0)
			failed |= act(p);
	}
	return failed;
}

#endif
