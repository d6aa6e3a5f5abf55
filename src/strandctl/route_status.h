/* One route's line of `strandctl status`. */
#ifndef STRANDD_STRANDCTL_ROUTE_STATUS_H
#define STRANDD_STRANDCTL_ROUTE_STATUS_H

#include "strandctl/catalog.h"
#include "strandctl/table.h"

struct table *route_status_table(bool json);

/* Counts with bounds, in one statement. */
int route_status_add(struct table *table, struct ctl *ctl, const struct attachment *a,
		     struct err *e) MUST_CHECK;

#endif
