/* Idle workers: one bit each, and one eventfd each.
 *
 * A worker that wants to sleep sets its bit, looks for work once more, and only
 * then sleeps.  Whoever makes work takeable does so first and looks at the bits
 * then.  Both use sequentially consistent operations, so one of them sees the
 * other: no wakeup is lost.
 *
 * To wake is to clear a bit and then to signal that worker.  A worker that
 * leaves finds by its own bit whether a wake was spent on it; if so it takes the
 * work that the wake was about, or passes the wake on.
 *
 * park_wake: any thread.  The others: the worker itself.
 */
#ifndef STRANDD_QUEUE_PARK_H
#define STRANDD_QUEUE_PARK_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "base/event.h"

#define PARK_MAX_WORKERS 64
#define PARK_ALL UINT64_MAX

struct park {
	struct event *events;	/* one a worker */
	unsigned n_workers;
	_Alignas(64) _Atomic uint64_t idle;
};

int park_init(struct park *p, unsigned n_workers) MUST_CHECK;
void park_release(struct park *p);	/* takes a zeroed one */

void park_enter(struct park *p, unsigned worker);

/* True if a wake was spent on this worker since park_enter. */
bool park_leave(struct park *p, unsigned worker);

/* Between the two; 0, STRAND_ETIMEOUT, STRAND_ESTOPPED. */
int park_sleep(struct park *p, unsigned worker, int64_t deadline, int stop_fd);

/* `among`: a bit for each worker that is meant. */
bool park_any(const struct park *p, uint64_t among);	/* is one of them idle? */
unsigned park_idle(const struct park *p);		/* how many are idle */
void park_wake(struct park *p, uint64_t among);		/* the first of those that are idle */

#endif
