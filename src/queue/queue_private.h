/* What the files of the queue share: queue.c (what comes and goes, and who is woken),
 * take.c (what is taken), look.c (what may be asked).  Private to src/queue; who may
 * call is in queue.h.
 */
#ifndef STRANDD_QUEUE_QUEUE_PRIVATE_H
#define STRANDD_QUEUE_QUEUE_PRIVATE_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "queue/ageing.h"
#include "queue/gate.h"
#include "queue/inflight.h"
#include "queue/lane.h"
#include "queue/park.h"

enum { LANE_HIGH, LANE_NORMAL, LANES };

/* What the queue has of one route. */
struct lanes {
	struct lane lanes[LANES];
	struct gate gate;
	_Atomic unsigned closed_turn;	/* the lane that queue_take_closed looks at first */
	unsigned batch;			/* 0: the taker's max */
};

struct queue {
	struct inflight inflight;
	struct park park;
	uint64_t may_take[LANES];	/* the workers, a bit each */
	_Alignas(64) struct ageing ageing;
	_Atomic unsigned turn[LANES];	/* where the next look begins */
	unsigned n_routes;
	struct lanes routes[];
};

static inline bool queue_may_take(const struct queue *q, unsigned worker, int lane)
{
	return q->may_take[lane] >> worker & 1;
}

/* Looks for those who are idle, for each kind of work: any thread. */
void queue_wake_if_work(struct queue *q);

#endif
