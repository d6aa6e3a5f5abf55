/* When the process that follows one that died may be started: later after each death
 * in a row, and only so often within a minute.  Pure but for the random number of
 * base/backoff.h; owned by one thread.
 */
#ifndef STRANDD_HANDLE_PACE_H
#define STRANDD_HANDLE_PACE_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"

struct pace {
	int64_t initial_ms, cap_ms;
	unsigned per_minute;		/* 0: no bound */
	unsigned deaths;		/* in a row, of processes that did not live well */
	int64_t *starts;		/* a ring of the last per_minute; clock_now() based, 0: none */
	unsigned at;			/* the oldest of them */
};

int pace_init(struct pace *p, int64_t initial_ms, int64_t cap_ms, unsigned per_minute) MUST_CHECK;
void pace_release(struct pace *p);

/* A process has died, or could not be started, `now`: when the next may be.  One
 * that was of use, or was there for longer than the wait that is due, has lived well:
 * its death counts as the first. */
int64_t pace_after_death(struct pace *p, bool was_of_use, int64_t lived_ms, int64_t now);

/* Deaths of the past say nothing of the next process. */
void pace_forget(struct pace *p);

#endif
