/* The lists `modules` and `routes` of the configuration file.  Main thread.
 */
#ifndef STRANDD_CONF_LISTS_H
#define STRANDD_CONF_LISTS_H

#include <libconfig.h>

#include "base/err.h"
#include "conf/conf.h"

/* The specification's three modules; STRAND_ENOMEM. */
int lists_default_modules(struct conf *c) MUST_CHECK;

/* Each reads a list's setting into `c`.  The routes last: they name modules.
 * STRAND_EINVAL, STRAND_ENOMEM. */
int lists_read_modules(struct conf *c, const config_setting_t *list, struct err *e) MUST_CHECK;
int lists_read_routes(struct conf *c, const config_setting_t *list, struct err *e) MUST_CHECK;

void lists_release(struct conf *c);

#endif
