/* notifications.channels: which routes this instance serves.  Main thread, or any that
 * owns what it passes.
 */
#ifndef STRANDD_CONF_SELECT_H
#define STRANDD_CONF_SELECT_H

#include "conf/conf.h"
#include "conf/report.h"

/* Moves the routes that `channels` does not name to `left_out`; a name that no route
 * has is reported.  For a configuration without errors.  STRAND_ENOMEM. */
int select_routes(struct conf *c, struct reports *reports) MUST_CHECK;

#endif
