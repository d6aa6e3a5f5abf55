/* What the files of one worker share; private to src/work.
 *
 * A worker, its batch and its session belong to its own thread, which makes all these
 * calls.  Low layers return errors; here it is decided what becomes of them, and they
 * are logged, once.
 */
#ifndef STRANDD_WORK_RUN_H
#define STRANDD_WORK_RUN_H

#include "work/worker.h"

/* Runs the batch's transactions: plain, then guarded if a strand is to blame; behind
 * a lease, if its one strand goes alone; guarded at once, if it is a probe; as
 * process.h says, if its handler is a process.  *s may be another session afterwards;
 * NULL: the last one is gone. */
int batch_attempt(struct worker *w, struct batch *b, struct session **s, struct err *e) MUST_CHECK;

/* After batch_attempt failed with `ret`: the session is rolled back, or thrown away;
 * the strands remember what may be their own doing; the log is told. */
void batch_clean_up(struct worker *w, struct batch *b, struct session *s, int ret, struct err *e);

/* Gives back what the batch's lease charged, if its run left it open, or charges it for
 * good.  True when it was charged, which the item's state says.  After batch_clean_up. */
bool worker_end_lease(struct worker *w, struct batch *b);

/* No session was to be had: tells the log, and pauses. */
void worker_outage(struct worker *w, const struct err *e);

/* Each item goes where its state says: done with, or to be tried again.  `ran`: the
 * transaction stands.  The items are the queue's again. */
void batch_end(struct worker *w, struct batch *b, bool ran);

/* Takes the delivery: to be tried again, after a pause that grows up to `cap_ms`. */
void worker_put_off(struct worker *w, struct delivery *d, int64_t cap_ms);
#define AGAIN_CAP_MS 5000

/* Tells the log, once, of trouble with the batch's route; `who` was put off. */
void worker_tell_trouble(struct worker *w, const struct batch *b, const char *who, enum fault fault,
			 const struct err *e);

/* Suspends the route, here and in the database. */
void worker_suspend(struct worker *w, const struct route *r, const struct err *why);

/* What a batch that is over says of its route: suspended, resumed, or neither.
 * `ret` and `e` as batch_attempt left them. */
void worker_judge_route(struct worker *w, const struct batch *b, int ret, const struct err *e);

#endif
