/* Telling that a configured tag is attached to no route; private to src/strand. */
#ifndef STRANDD_STRAND_UNATTACHED_H
#define STRANDD_STRAND_UNATTACHED_H

#include "strand/route.h"

/* STRAND_EINVAL with the tag that may be meant and with the command that attaches this
 * one.  `r` has its names; r->routes is NULL when the receiver has no routes at all. */
int unattached(const struct route *r, struct conn *c, struct err *e);

#endif
