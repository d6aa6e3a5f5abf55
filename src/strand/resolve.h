/* Looking one route up in the catalogs; private to src/strand. */
#ifndef STRANDD_STRAND_RESOLVE_H
#define STRANDD_STRAND_RESOLVE_H

#include "strand/route.h"

/* Is the database in UTF8, and strandd's schema there, in a version that this program knows? */
int resolve_schema(struct conn *c, struct err *e) MUST_CHECK;
/* Fills the database's part of *r. */
int resolve_route(struct route *r, struct conn *c, struct err *e) MUST_CHECK;
/* Is this the database that the route was attached in? */
int resolve_system(const struct route *r, struct conn *c, int64_t deadline, struct err *e) MUST_CHECK;
/* A number that no other route table bears, of any process, now or later. */
int resolve_instance(int64_t *ret_instance, struct conn *c, struct err *e) MUST_CHECK;

#endif
