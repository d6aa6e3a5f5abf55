/* What `strandctl status` shows, for whoever shows it beside other things. */
#ifndef STRANDD_STRANDCTL_STATUS_H
#define STRANDD_STRANDCTL_STATUS_H

#include "strandctl/catalog.h"

/* Nothing is printed when it fails.  After strands_start. */
int status_show(struct ctl *ctl, const struct catalog *c, struct err *e) MUST_CHECK;

#endif
