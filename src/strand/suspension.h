/* Routes whose handler is broken: which are suspended, and when each is probed.
 *
 * A suspended route is closed in the queue: nothing of it is taken but by a probe,
 * a few strands by one worker, which are charged nothing.  The database has the same
 * in <X>_routes.suspended_at, for operators and for other instances; the scanner
 * reads it, workers write it.  Memory decides what this process does, and a resume
 * that is lost is made good by the scanner's next look.
 *
 * init and release: nobody else inside; all other calls: any thread.
 */
#ifndef STRANDD_STRAND_SUSPENSION_H
#define STRANDD_STRAND_SUSPENSION_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

struct queue;

struct suspension {
	_Atomic bool on;
	_Atomic bool recorded;		/* the database knows */
	_Atomic bool probing;		/* a worker is at it */
	_Atomic int64_t probe_at;	/* clock_now() based */
	_Atomic unsigned probes;	/* that failed in a row */
	_Atomic unsigned failures;	/* charged in a row, with no success */
	_Atomic unsigned successes;	/* to see that there was one */
};

struct suspensions {
	struct queue *const *queues;	/* by route; borrowed */
	size_t n;
	struct suspension *routes;
};

int suspensions_init(struct suspensions *s, struct queue *const *queues, size_t n_routes) MUST_CHECK;
void suspensions_release(struct suspensions *s);

/* `recorded`: the database has it.  True if it was not suspended before. */
bool suspension_begin(struct suspensions *s, unsigned route, bool recorded);
/* True if it was suspended. */
bool suspension_end(struct suspensions *s, unsigned route);
bool suspension_on(const struct suspensions *s, unsigned route);
bool suspension_recorded(const struct suspensions *s, unsigned route);

/* A suspended route of this queue whose probe is due, which the caller has to make and to end with
 * suspension_probed or suspension_end; -1: none. */
int suspension_due(struct suspensions *s, const struct queue *q, int64_t now);
/* `tried`: a strand was handled, and failed; else there was none: the next probe is
 * as soon as this one was.  Nothing if the suspension has ended meanwhile. */
void suspension_probed(struct suspensions *s, unsigned route, bool tried);
/* When a probe of this queue's routes is due; INT64_MAX: none. */
int64_t suspension_next(const struct suspensions *s, const struct queue *q);

/* How many attempts in a row were charged, of batches that were committed. */
unsigned suspension_failures(const struct suspensions *s, unsigned route);
/* A batch was committed, at whose end so many had failed in a row; `ended`: some strand
 * went through before them, or there were none. */
void suspension_add_row(struct suspensions *s, unsigned route, bool ended, unsigned failures);
/* A batch with some that went through was committed. */
void suspension_success(struct suspensions *s, unsigned route);
unsigned suspension_successes(const struct suspensions *s, unsigned route);	/* another number after one */

#endif
