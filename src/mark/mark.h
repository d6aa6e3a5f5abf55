/* Marking the strands of one route; private to src/mark, the marker's thread. */
#ifndef STRANDD_MARK_MARK_H
#define STRANDD_MARK_MARK_H

#include <stdbool.h>
#include <stddef.h>

#include "base/stop.h"
#include "pg/conn.h"
#include "strand/route.h"

/* The texts of a route's statements, made when they are first needed. */
struct mark_route {
	char *page, *mark;
};

struct mark_result {
	size_t marked;
	bool left;	/* some could not be had, or failed: try again */
};

/* On a new connection. */
int mark_prepare(struct conn *c, int64_t deadline, struct err *e) MUST_CHECK;

/* Marks all that the route has to mark.  STRAND_ESQL: at least one failed, and the
 * others were tried; STRAND_ESTOPPED; STRAND_ECONN. */
int mark_route(struct mark_route *m, const struct route *r, struct conn *c, const struct stop *stop,
	       struct mark_result *ret_result, struct err *e) MUST_CHECK;
void mark_route_release(struct mark_route *m);

#endif
