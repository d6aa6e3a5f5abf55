/* Retries that are due, leases that were left behind, and what the route's row says
 * of its suspension; private to src/scan, the scanner's thread. */
#ifndef STRANDD_SCAN_DUE_H
#define STRANDD_SCAN_DUE_H

#include "scan/scanner.h"

#define SUSPENDED_MS 1000	/* a route that is suspended and has no room is looked at again after this */

/* Is it time for due_serve? */
bool due_is_now(const struct scan_route *sr, int64_t now);
/* When it will be. */
int64_t due_next(const struct scan_route *sr);

/* Looks at the route's row and offers what is due; what finds no room is offered a
 * little later. */
int due_serve(struct scanner *s, unsigned route, struct err *e) MUST_CHECK;

#endif
