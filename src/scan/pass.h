/* One pass over one route; the scanner thread's. */
#ifndef STRANDD_SCAN_PASS_H
#define STRANDD_SCAN_PASS_H

#include "scan/scanner.h"

/* A turn of the route's pass, some pages long, after which `running` tells whether
 * there is more of it: so one route's long pass does not keep the others waiting,
 * and the urgent strands of all come before the normal ones of any.  A pass offers
 * every strand of the route that may lack a receipt to the queue, and at its end
 * makes its snapshot the next one's start.  STRAND_EFULL: there is no room for
 * more of this route; call again a little later, and it goes on where it was.
 * STRAND_ESTOPPED; errors of conn_query. */
int pass_run(struct scanner *s, unsigned route, struct err *e) MUST_CHECK;

/* A snapshot as of now; the caller releases it.  Errors of conn_query. */
int pass_take_snapshot(struct scanner *s, struct snapshot *ret, struct err *e) MUST_CHECK;

/* Forgets an unfinished pass: the next one begins anew. */
void pass_abandon(struct scanner *s, unsigned route);

/* Records the least xact_id that may still lack a receipt, as far as it is known:
 * where a later start begins.  A pass has offered all that lies below its
 * snapshot's xmin; that is settled when the epoch of the queue that ended with the
 * pass is over. */
int pass_record_position(struct scanner *s, unsigned route, struct err *e) MUST_CHECK;

#endif
