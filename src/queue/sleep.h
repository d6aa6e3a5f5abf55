/* Sleeping on one event. */
#ifndef STRANDD_QUEUE_SLEEP_H
#define STRANDD_QUEUE_SLEEP_H

#include <stdint.h>

#include "base/event.h"

/* Waits until `e` is signalled, `deadline`, or `stop_fd` (-1: none) is readable.
 * 0, STRAND_ETIMEOUT, STRAND_ESTOPPED; stop wins over the event, the event over
 * the deadline.  Does not clear the event. */
int sleep_on(const struct event *e, int64_t deadline, int stop_fd);

/* A thread's rest between two rounds, which it says (base/activity.h): sleeps, and
 * clears the event. */
void rest_on(struct event *e, int64_t deadline, int stop_fd);

#endif
