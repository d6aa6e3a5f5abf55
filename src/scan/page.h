/* One page of a pass; the scanner thread's. */
#ifndef STRANDD_SCAN_PAGE_H
#define STRANDD_SCAN_PAGE_H

#include "scan/scanner.h"

#define PAGE_TIMEOUT_MS 60000

/* Prepares the route's statements on the present connection, if that is still to
 * do.  Errors of conn_prepare. */
int page_prepare(struct scanner *s, unsigned route, struct err *e) MUST_CHECK;

/* Reads the page at the pass's place, offers what it finds to the queue and moves
 * the place on.  STRAND_EFULL: not all of it had room, the place is as before;
 * errors of conn_query. */
int page_take(struct scanner *s, unsigned route, struct err *e) MUST_CHECK;

#endif
