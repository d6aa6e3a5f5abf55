/* The plain way, to compare with: one mutex around lists and a hash set.
 * The same rules as queue/queue.h: no id twice on a route, bounded, high lanes
 * first, routes in turn, one route and lane a batch.  No caps, no sleeping. */
#ifndef BENCH_MUTEX_QUEUE_H
#define BENCH_MUTEX_QUEUE_H

#include <stdbool.h>
#include <stddef.h>

#include "queue/queue.h"

struct mutex_queue;

struct mutex_queue *mutex_queue_new(unsigned n_routes, size_t max_entries);	/* NULL: no memory */
void mutex_queue_free(struct mutex_queue *q);					/* finished: empty */
enum queue_answer mutex_queue_offer(struct mutex_queue *q, unsigned route, const char *id,
				    size_t id_len, bool high);
size_t mutex_queue_take(struct mutex_queue *q, struct delivery **out, size_t max);
void mutex_queue_finish(struct mutex_queue *q, struct delivery *d);

#endif
