/* One slot for a child process that runs a handler: what a crew's worker sees of it.
 *
 * A slot belongs to one worker thread, which alone calls what is here, and has made its
 * last call before supervisor_remove; the supervisor's thread (supervisor.h) starts,
 * watches and ends the process behind it.  The two share the slot's state under the
 * supervisor's mutex, a leaf.  During child_exchange the process's stdin and stdout are
 * the worker's, else the supervisor's.
 * No call blocks beyond its deadline, or beyond `stop_fd` becoming readable.
 */
#ifndef STRANDD_HANDLE_CHILD_H
#define STRANDD_HANDLE_CHILD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "strand/sqlstate.h"

struct child;

/* What one route's children are started with, and what they may do. */
struct child_policy {
	const char *name;		/* of the route, for the log: its tag */
	const char *source;		/* of the route: its source table */
	char *const *argv;		/* ends with NULL; argv[0] is looked up in PATH */
	char *const *environment;	/* "NAME=value", added to strandd's own; ends with NULL; may be NULL */
	const char *directory;		/* NULL: strandd's own */
	const char *user;		/* NULL: strandd's own */
	bool says_ready;		/* its first line is {"ready":true} */
	unsigned in_flight;		/* requests without an answer at a time, 1.. */
	int64_t start_timeout_ms;	/* until it says that it is ready */
	int64_t timeout_ms;		/* without an answer */
	int64_t grace_ms;		/* between SIGTERM and SIGKILL, and after EOF on its stdin */
	unsigned max_requests;		/* replaced after so many; 0: never */
	int64_t max_lifetime_ms;	/* replaced when so old; 0: never */
	size_t max_line;		/* bytes of one answer */
	unsigned max_replies;		/* of one answer; 0: no bound but max_line */
	int64_t backoff_initial_ms, backoff_cap_ms;	/* between starts that follow a death */
	unsigned starts_per_minute;	/* of those, at most; 0: no bound */
	unsigned stderr_lines_per_second;	/* into the log; more are counted and dropped */
	bool single;			/* no other follows the first; how it ended the log is told only where
					 * the worker is not: behind an answer */
};

enum request_state {
	REQUEST_UNSENT,		/* the process has read nothing of it */
	REQUEST_ANSWERED,
	REQUEST_FAILED,		/* the handler says so, or its answer cannot be taken */
	REQUEST_LOST,		/* the process has read of it, and not answered: what it did is not known */
	REQUEST_LATE,		/* not sent: `send_before` had come */
};

struct request {
	/* In: borrowed. */
	const char *id;		/* NUL-terminated */
	unsigned attempt;
	const char *row;	/* the strand as JSON text */
	size_t row_len;
	int64_t send_before;	/* clock_now() based; 0: no matter when */
	size_t place;		/* the caller's own */
	/* Out: */
	enum request_state state;
	char *text;		/* ANSWERED: "[...]", the replies as they were written; FAILED: the error;
				 * else NULL.  Freed by exchange_release */
	size_t text_len;
	size_t n_replies;	/* ANSWERED */
	bool final;		/* FAILED: not to be tried again */
	bool refused;		/* FAILED: not the handler's word but ours, of an answer that is not as
				 * protocol.h says or goes over max_replies: SQLSTATE_HANDLER_GARBAGE */
	/* child_exchange's own. */
	uint64_t begin;		/* of its line, in all that was written */
	int64_t sent_at;
};

struct exchange {
	const char *tag, *source;
	size_t n;
	struct request *requests;	/* owned by the caller */
	bool (*may_send)(const void *arg);	/* asked before each; false: no more are sent.  NULL: always */
	const void *arg;
	struct err lost;		/* why requests are LOST; its code is 0 when none is.  Else
					 * STRAND_ECONN (it died), _ETIMEOUT, _EPROTO, _ENOMEM, _ESTOPPED
					 * (`now_fd`), and sqlstate one of those below, "" for the last two */
};

/* Waits until the slot's process is up and ready.  0; STRAND_ETIMEOUT; STRAND_ESTOPPED;
 * STRAND_EINVAL: it cannot be started, or never got ready, or ended before it had read
 * a request, *e says why: so often in a row as child_failed_starts says.  Of the failures
 * since the last call the last is told, and none twice: so a caller who calls again
 * waits as long as the next start is put off. */
int child_wait(struct child *c, int64_t deadline, int stop_fd, struct err *e) MUST_CHECK;
unsigned child_failed_starts(const struct child *c);
bool child_is_up(const struct child *c);	/* would child_wait answer 0 now, or nearly so? */

/* Has it failed to start so many times in a row, while no other process of its route is
 * of use? */
bool child_is_hopeless(const struct child *c, unsigned starts);

/* Sends the requests, as many at a time as the policy allows, and takes the answers.
 * Call it only when child_wait answered 0; where the process has died since, all are
 * UNSENT.  Each request's state says what became of it.  When one is LOST the process
 * is gone with its group, and the supervisor starts another; where it had read nothing
 * of a request, that one is UNSENT though it was written, and has been taken back.  No more are sent once
 * replies of 64 MiB (or of max_line, if that is more) are in hand: what is held is that
 * and in_flight answers at most.
 * `stop_fd` (-1: none) readable: nothing more is sent, what is out is waited for until
 * `timeout_ms`; `now_fd` (-1: none) readable: the process is killed.
 * 0, or STRAND_ENOMEM (then all that was sent is LOST, but for what was answered). */
int child_exchange(struct child *c, struct exchange *x, int stop_fd, int now_fd, struct err *e) MUST_CHECK;
void exchange_release(struct exchange *x);	/* the requests' texts */

/* Between exchanges: if its age, its requests or supervisor_replace_all say so, the
 * process is told to leave (EOF, SIGTERM, SIGKILL), and another is started.  Does not
 * wait for it: child_wait does. */
void child_tidy(struct child *c);

#endif
