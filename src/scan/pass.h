/* One pass over one route; the scanner thread's. */
#ifndef STRANDD_SCAN_PASS_H
#define STRANDD_SCAN_PASS_H

#include "scan/scanner.h"

/* Offers every strand of the route that may lack a receipt to the queue, waiting
 * for room where it must, and makes this pass's snapshot the next one's start.
 * STRAND_ESTOPPED when told to stop; errors of conn_query; on any failure the
 * pass counts as not run. */
int pass_run(struct scanner *s, unsigned route, struct err *e) MUST_CHECK;

/* Records, when everything below it is settled, the least xact_id that may still
 * lack a receipt: where a later start begins. */
int pass_record_position(struct scanner *s, unsigned route, struct err *e) MUST_CHECK;

#endif
