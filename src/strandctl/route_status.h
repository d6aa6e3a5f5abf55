/* The routes of `strandctl status`: for people in two tables, which fit a terminal
 * (what waits, what is settled), for programs in one. */
#ifndef STRANDD_STRANDCTL_ROUTE_STATUS_H
#define STRANDD_STRANDCTL_ROUTE_STATUS_H

#include "base/buf.h"
#include "strandctl/catalog.h"
#include "strandctl/table.h"

struct route_status {
	struct ctl *ctl;
	struct table *routes, *receipts;
	struct buf suspended;	/* a line for each suspended route, with the remedy */
};

void route_status_init(struct route_status *s, struct ctl *ctl);
void route_status_release(struct route_status *s);

/* Counts with bounds, in two statements. */
int route_status_add(struct route_status *s, const struct attachment *a, struct err *e) MUST_CHECK;
void route_status_print(struct route_status *s);

#endif
