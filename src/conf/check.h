/* What no single setting can tell: do modules, routes, channels and options go
 * together?  Pure functions but for the reports.
 */
#ifndef STRANDD_CONF_CHECK_H
#define STRANDD_CONF_CHECK_H

#include "conf/conf.h"
#include "conf/report.h"

/* Once all has been read.  Half-read modules and routes are passed over: they have
 * been complained of. */
void check_conf(const struct conf *c, struct reports *reports);

/* The place of a row of conf_options by its path. */
const struct place *check_place(const struct conf *c, const char *path);

#endif
