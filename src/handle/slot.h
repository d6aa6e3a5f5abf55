/* A slot, and the supervisor, from inside.  Private to src/handle.
 *
 * Only the supervisor's thread starts, signals and reaps processes, and moves a slot
 * from state to state.  A worker asks for that with an order, under the lock, and
 * signals `work`; it is told of what changed by `news`.  A state is written under the
 * lock by the supervisor's thread, which alone may read it without.
 *
 *	WAITING --> STARTING --> UP --> LEAVING --> WAITING
 *	    \_________________/^           ^
 *	                 \_________________/
 *
 * A process that has died stays unreaped until its group is gone, so that the group's
 * number cannot be another's when it is signalled.
 */
#ifndef STRANDD_HANDLE_SLOT_H
#define STRANDD_HANDLE_SLOT_H

#include <poll.h>
#include <pthread.h>

#include "base/event.h"
#include "base/thread.h"
#include "handle/child.h"
#include "handle/errlog.h"
#include "handle/line_reader.h"
#include "handle/pace.h"
#include "handle/policy.h"
#include "handle/spawn.h"
#include "handle/supervisor.h"

enum child_state {
	CHILD_WAITING,	/* no process; another is started at `start_at` */
	CHILD_STARTING,	/* it has not yet said that it is ready */
	CHILD_UP,
	CHILD_LEAVING,	/* it was told to, or has died, and is not yet gone with its group */
};

/* Only ever raised, until the process is gone. */
enum order {
	ORDER_NONE,
	ORDER_LEAVE,	/* EOF, the grace, TERM, the grace, KILL; another is started at once */
	ORDER_FINISH,	/* EOF, a second, TERM, the grace, KILL */
	ORDER_TERM,	/* TERM, the grace, KILL */
	ORDER_KILL,
};

/* How far the process was told to leave. */
enum phase { PHASE_RUN, PHASE_EOF, PHASE_TERM, PHASE_KILL };

struct child {
	struct supervisor *s;
	struct child_policy policy;	/* our copy; not written while the slot lives */
	unsigned number;
	struct event news;		/* to the worker */

	/* Under the lock.  `next` is written by the supervisor's thread, once the slot is
	 * in the list, which alone may read it without. */
	struct child *next;
	enum child_state state;
	enum order order;
	char reason[400];		/* of the order, to be put behind "the process" */
	bool removed;			/* its worker has ended */
	bool held;			/* the worker has the process's stdin, stdout and `lines` */
	bool replacing;			/* its process is, or is to be, the first after replace_all */
	unsigned failed_starts;		/* in a row */
	struct err trouble;		/* the last of them, until child_wait has told it; code 0: none */
	/* ... of the process that there is: */
	uint64_t epoch;			/* how many times all had been replaced when it was started */
	int64_t born_at, up_at;		/* clock_now() based; up_at 0: not yet */
	unsigned served;		/* requests */
	bool proven;			/* it was ready, or has read a request */
	bool answered;			/* a request, at least one */
	bool by_itself;			/* it died, and was not told to by a signal */
	bool gone;			/* reaped, and its group is gone */
	char ending[64];		/* how it died: "exited with status 1" */
	char words[160];		/* ... and what it wrote to its stderr last, "" if that is no reason */

	/* Whose they are, `held` says. */
	struct line_reader lines;

	/* The supervisor's thread's, but that `held` lends process.in and .out. */
	struct process process;
	struct errlog errlog;
	struct pace pace;
	enum order acted;		/* the order that was acted on */
	enum phase phase;
	int64_t phase_until;
	unsigned kills;			/* SIGKILLs that have not ended it */
	bool dead;			/* ... but perhaps not its group */
	bool out_closed;		/* by all who held its stdout */
	bool over;			/* nobody needs the slot any more: to be freed */
	int64_t start_at, ready_until;

	/* The worker's. */
	struct buf out;			/* what is to be written to the process */
};

struct supervisor {
	struct thread thread;
	struct event work;		/* to the thread */
	pthread_mutex_t lock;		/* a leaf: nothing is called under it */

	/* Under the lock. */
	struct child *children;
	bool stopping;
	uint64_t epoch;			/* how many times all were to be replaced */
	uint64_t starts, deaths;

	/* The thread's. */
	struct pollfd *fds;
	size_t n_fds;
};

/* Under the lock: may a worker use the process? */
static inline bool slot_usable(const struct child *c)
{
	return c->state == CHILD_UP && c->order == ORDER_NONE;
}

/* Takes the lock: raises the order, for a reason that may be "". */
void slot_order(struct child *c, enum order order, const char *reason);

/* The supervisor's thread.  _step does what is due, and returns when more will be. */
enum { SLOT_FDS = 3 };
int64_t slot_step(struct child *c, int64_t now);
void slot_watch(const struct child *c, struct pollfd fds[SLOT_FDS], int64_t now);
void slot_serve(struct child *c, const struct pollfd fds[SLOT_FDS], int64_t now);

struct child *slot_new(struct supervisor *s, const struct child_policy *policy, unsigned number);
void slot_free(struct child *c);

/* slot.c's parts, on the supervisor's thread. */
void slot_start(struct child *c, uint64_t epoch, int64_t now);		/* life.c */
void slot_hear(struct child *c);					/* its first line */
void slot_died(struct child *c, int64_t now);
void slot_bury(struct child *c, int64_t now);
void slot_conclude(struct child *c, bool to_leave, int64_t now);
void slot_move(struct child *c, enum child_state to);			/* under the lock */

#endif
