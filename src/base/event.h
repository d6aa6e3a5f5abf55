/* An eventfd that one or more threads wait for with poll(2).
 * event_signal may be called by any thread and from a signal handler.
 */
#ifndef STRANDD_BASE_EVENT_H
#define STRANDD_BASE_EVENT_H

#include <stdint.h>

#include "base/err.h"

struct event {
	int fd;		/* -1 when released */
};

int event_init(struct event *e) MUST_CHECK;
void event_release(struct event *e);
void event_signal(struct event *e);
void event_clear(struct event *e);

/* Waits until signalled or `deadline`, with signs of life (base/beat.h); 0,
 * STRAND_ETIMEOUT.  Does not clear. */
int event_wait(struct event *e, int64_t deadline);

#endif
