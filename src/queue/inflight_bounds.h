/* How much of the in-flight set is taken: of all of it and of each route, in entries and
 * in bytes of their ids, normal and high ones apart; and by epoch.  Private to
 * src/queue; what others may ask is in inflight.h.  Any thread; lock-free.
 */
#ifndef STRANDD_QUEUE_INFLIGHT_BOUNDS_H
#define STRANDD_QUEUE_INFLIGHT_BOUNDS_H

#include "queue/inflight.h"

/* Room for one entry with an id of so many bytes, which inflight_give_back gives back.
 * False, and nothing is taken: a bound is reached.  On success it is counted under
 * *ret_parity. */
bool inflight_reserve(struct inflight *f, unsigned route, enum inflight_kind kind, size_t bytes,
		      bool *ret_parity) MUST_CHECK;
void inflight_give_back(struct inflight *f, unsigned route, enum inflight_kind kind, bool parity, size_t bytes);

#endif
