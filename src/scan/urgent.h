/* Looks at the urgent strands alone, while a pass is on its way; private to src/scan,
 * the scanner's thread.
 *
 * A pass reads in the order of xact_ids and waits for room, so behind a backlog of
 * normal strands it takes as long as they do.  A look reads what is new in the
 * high-priority index.  It is an extra: the passes find all of it again.
 */
#ifndef STRANDD_SCAN_URGENT_H
#define STRANDD_SCAN_URGENT_H

#include "scan/scanner.h"

/* From here on: everything urgent that is visible below `now`'s xmin has been offered. */
void urgent_begin(struct scan_route *sr, const struct snapshot *now);

/* Offers what is urgent and new, when it is time for that: some pages, the rest at the
 * next call.  Errors of conn_query. */
int urgent_look(struct scanner *s, unsigned route, struct err *e) MUST_CHECK;

void urgent_mark(struct scan_route *sr);	/* hints were dropped: it is time soon */

#endif
