/* Deliveries that will be tried again a little later: another instance holds
 * them, the server was away, a transaction lost a race.
 *
 * One for all workers, so that none waits for the worker that put it off, which
 * may be busy for long.  The deliveries stay in flight, so nothing else queues
 * them.  All calls: any worker, at once; init and release: nobody else inside.
 * The mutex is a leaf: nothing is called under it.
 */
#ifndef STRANDD_WORK_AGAIN_H
#define STRANDD_WORK_AGAIN_H

#include <pthread.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "queue/queue.h"

struct again_item {
	int64_t due;	/* clock_now() based */
	struct delivery *delivery;
};

struct again {
	pthread_mutex_t lock;		/* of the heap */
	struct again_item *items;	/* a binary heap, the earliest first */
	size_t n, size;
	_Atomic int64_t next;		/* when the earliest is due; INT64_MAX: none */
};

void again_init(struct again *a);

/* Takes the delivery; STRAND_ENOMEM leaves it with the caller. */
int again_add(struct again *a, struct delivery *d, int64_t due) MUST_CHECK;

/* Gives what is due back to the queue. */
void again_return_due(struct again *a, struct queue *q, int64_t now);

/* When the earliest is due, INT64_MAX when there is none. */
int64_t again_next(const struct again *a);

/* How many of this route it holds; any thread. */
size_t again_count(struct again *a, unsigned route);

void again_release(struct again *a);	/* what it holds is freed with the queue */

#endif
