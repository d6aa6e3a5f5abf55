/* Batches of a route whose handler is a process; private to src/work.
 *
 * No transaction is open while the handler runs.  First the strands are handed out:
 * their receipts say `running`, with an attempt and this instance, before the process
 * sees them.  Then it answers.  Then its answers are settled, if the receipts are still
 * that lease.  So no answer counts twice, and what a crash leaves behind is told from
 * what was never tried.
 *
 * The worker's own thread.
 */
#ifndef STRANDD_WORK_PROCESS_H
#define STRANDD_WORK_PROCESS_H

#include "handle/child.h"
#include "work/run.h"

/* What the process is to do and has done for a batch. */
struct process_batch {
	struct batch *batch;
	bool once;		/* the route delivers at most once */
	const struct keeper *keeper;
	uint64_t term;		/* the keeper's, in which they are leased */
	PGresult *rows;		/* the requests' */
	int64_t asked_at;	/* for them; clock_now() based */
	struct exchange exchange;
	size_t *places;		/* of the requests in the batch */
	size_t n_lost;
	unsigned races;		/* answers that could not be settled, at no cost */
	bool apart;		/* one by one: some did not answer, or all at once has failed */
};

/* Is the worker's process there to be sent strands?  Waits for it a while; a route
 * whose process cannot be started is suspended. */
bool process_ready(struct worker *w);

/* As batch_attempt; the batch's deliveries are handed out, handled and settled when it
 * returns 0.  Answers that cannot be settled wait here until they can, through other
 * sessions if need be. */
int process_attempt(struct worker *w, struct batch *b, struct session **s, struct err *e) MUST_CHECK;

/* process_settle.c: one try to settle what was answered, charge what failed, and give
 * back what was not tried.  0: it stands. */
int process_settle(struct process_batch *p, struct session *s, struct err *e) MUST_CHECK;

#endif
