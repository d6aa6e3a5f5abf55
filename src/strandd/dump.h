/* The daemon's state, into the log, for an operator who asked by SIGUSR1: what each
 * thread does and since when, what waits and runs on each route, and in which state
 * each connection is.  One line for each, at level info, never folded. */
#ifndef STRANDD_STRANDD_DUMP_H
#define STRANDD_STRANDD_DUMP_H

#include "queue/queue.h"
#include "strand/route.h"
#include "work/again.h"

/* Threads and connections; then, unless `routes` is NULL because none are served yet,
 * the routes.  Stops nobody; numbers of one line may be a moment apart.  The main
 * thread. */
void dump_state(const struct route_table *routes, const struct queue *queue, struct again *again);

#endif
