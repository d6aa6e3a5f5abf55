/* The daemon's state, into the log, for an operator who asked by SIGUSR1: what each
 * thread does and since when, what waits and runs on each route, and in which state
 * each connection is.  One line for each, at level info, never folded. */
#ifndef STRANDD_STRANDD_DUMP_H
#define STRANDD_STRANDD_DUMP_H

#include "strandd/generation.h"

/* Threads and connections; then the routes of each generation of the list, which is
 * NULL while none are served yet.  Stops nobody; numbers of one line may be a moment
 * apart.  The main thread. */
void dump_state(struct generation *newest);

#endif
