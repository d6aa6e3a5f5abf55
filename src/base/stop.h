/* How threads are told to stop, in two steps.
 *
 * One `struct stop` a generation (strandd/generation.h), which outlives its threads.
 * The main thread raises it; every wait of theirs watches its events.
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
