/* A worker: takes batches off the queue and moves their strands.
 *
 * worker_run is the body of one thread of the pool; it returns when the context
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
	unsigned number;		/* 0..threads-1 */
	bool reserved;			/* for high strands: its session is kept ready, it does not probe */
	int64_t ready_at;		/* clock_now() based: next look whether it is */
	struct connpool pool;
	struct again *again;		/* borrowed; all workers' */
	size_t max_batch;		/* the largest of any route */
	struct delivery **items[2];	/* room for a batch each: the one in hand, the last one */
	unsigned in_hand;		/* which of the two */
	struct batch last;		/* committed, still to be ended; n 0: none */
	struct outage outage;
	struct outage *trouble;		/* per route: batches put off in a row */
	int64_t *pace;			/* per route: what a strand takes, nanoseconds */
};

int worker_init(struct worker *w, const struct context *x, struct again *again,
		unsigned number) MUST_CHECK;
void worker_run(void *worker);
void worker_release(struct worker *w);

#endif
