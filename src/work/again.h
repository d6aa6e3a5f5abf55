/* Deliveries that a worker will try again a little later: another instance holds
 * them, the server was away, a transaction lost a race.
 * One worker's own; the deliveries stay in flight, so nothing else queues them.
 */
#ifndef STRANDD_WORK_AGAIN_H
#define STRANDD_WORK_AGAIN_H

#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "queue/queue.h"

struct again_item {
	int64_t due;	/* clock_now() based */
	struct delivery *delivery;
};

struct again {
	struct again_item *items;	/* a binary heap, the earliest first */
	size_t n, size;
};

/* Takes the delivery; STRAND_ENOMEM leaves it with the caller. */
int again_add(struct again *a, struct delivery *d, int64_t due) MUST_CHECK;

/* Gives what is due back to the queue. */
void again_return_due(struct again *a, struct queue *q, int64_t now);

/* When the earliest is due, or `otherwise` when there is none. */
int64_t again_next(const struct again *a, int64_t otherwise);

/* Gives everything back to the queue and frees the heap. */
void again_release(struct again *a, struct queue *q);

#endif
