/* Settings that no option table knows.  Pure functions: any thread.
 */
#ifndef STRANDD_CONF_KEYS_H
#define STRANDD_CONF_KEYS_H

#include <libconfig.h>

#include "base/err.h"
#include "conf/option.h"

/* Refuses the first setting in `group` that is neither a path of `table`, nor a
 * group on the way to one, nor in `extra` (names of lists, ends with NULL); the
 * message names the nearest that is known. */
int keys_check(const config_setting_t *group, const struct option_table *table,
	       const char *const *extra, const char *file, struct err *e) MUST_CHECK;

#endif
