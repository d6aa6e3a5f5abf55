/* A worker: takes batches off the queue and moves their strands.
 *
 * worker_run is the body of one thread of a crew; it returns when the context
 * is told to stop and the running batch is done.
 */
#ifndef STRANDD_WORK_WORKER_H
#define STRANDD_WORK_WORKER_H

#include "base/outage.h"
#include "strand/context.h"
#include "work/again.h"
#include "work/batch.h"
#include "work/connpool.h"

struct worker {
	const struct context *context;
	unsigned number;		/* in its crew, from 0 */
	struct child *child;		/* its process; NULL in the pool */
	unsigned route;			/* of a process: the one that it serves */
	bool reserved;			/* for high strands: its session is kept ready, it does not probe */
	int64_t ready_at;		/* clock_now() based: next look whether it is */
	struct connpool pool;
	struct queue *queue;		/* borrowed; its crew's */
	struct again *again;		/* borrowed; its crew's */
	size_t max_batch;		/* the largest of any route */
	struct delivery **items[2];	/* room for a batch each: the one in hand, the last one */
	unsigned in_hand;		/* which of the two */
	struct batch last;		/* committed, still to be ended; n 0: none */
	bool probe_tried;		/* the probe under way: a strand was handled, and failed */
	struct outage outage;
	struct outage *trouble;		/* per route: batches put off in a row */
	int64_t *pace;			/* per route: what a strand takes, nanoseconds */
};

/* `child` and `route`: of a process's crew; else NULL and 0. */
int worker_init(struct worker *w, const struct context *x, struct queue *q, struct again *again,
		unsigned number, struct child *child, unsigned route) MUST_CHECK;
void worker_run(void *worker);
void worker_release(struct worker *w);

#endif
