/* The marker thread: tells a strand's own tags that it failed or expired.
 *
 * The receipt says so first; then, in a transaction of its own for each strand,
 * `error:processing_failed`, `error:outcome_unknown` or `error:timeout` is appended to the
 * strand's tags, once, and the receipt is noted as marked.  It waits for nobody's lock (SKIP LOCKED), so it
 * can neither hold up a producer nor deadlock with one; what it cannot have now it
 * tries again until it stands.  Adding such a tag announces nothing.
 *
 * marker_wake: any thread.  init and release: the main thread, nobody else inside;
 * marker_run: the thread's own.
 */
#ifndef STRANDD_MARK_MARKER_H
#define STRANDD_MARK_MARKER_H

#include <stdatomic.h>

#include "base/event.h"
#include "base/outage.h"
#include "strand/context.h"

struct marker {
	const struct context *context;
	struct event event;		/* somebody woke it */
	_Atomic bool *wanted;		/* per route: receipts may be there to be marked */
	struct mark_route *routes;	/* its own */
	struct conn *conn;		/* NULL while there is none */
	struct outage *trouble;		/* per route: marks that failed; its own */
};

int marker_init(struct marker *m, const struct context *x) MUST_CHECK;
void marker_wake(struct marker *m, unsigned route);	/* a receipt was committed that is to be marked */
void marker_run(void *marker);				/* thread body; until STOP_DRAIN */
void marker_release(struct marker *m);

#endif
