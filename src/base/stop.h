/* How the process is told to stop, in two steps.
 * One `struct stop` lives in main() and outlives every thread.  The signal
 * thread raises it; every wait of every thread watches its event.
 */
#ifndef STRANDD_BASE_STOP_H
#define STRANDD_BASE_STOP_H

#include <stdatomic.h>

#include "base/event.h"

enum stop_level {
	STOP_NONE,	/* serve */
	STOP_DRAIN,	/* take nothing new, finish what runs */
	STOP_NOW,	/* leave at once; what runs is left to the server */
};

struct stop {
	_Atomic int level;	/* enum stop_level, only ever raised */
	struct event drain;	/* readable from STOP_DRAIN on, for ever */
	struct event now;	/* readable from STOP_NOW on, for ever */
};

int stop_init(struct stop *s) MUST_CHECK;
void stop_release(struct stop *s);
void stop_raise(struct stop *s, enum stop_level level);		/* any thread, async-signal-safe */
enum stop_level stop_level(const struct stop *s);

#endif
