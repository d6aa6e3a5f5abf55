/* Settings that no option table knows.
 */
#ifndef STRANDD_CONF_KEYS_H
#define STRANDD_CONF_KEYS_H

#include <libconfig.h>

#include "conf/option.h"
#include "conf/reading.h"

/* Reports each setting in `group` that is neither a path of `table`, nor a group on
 * the way to one, nor in `extra` (names of lists, ends with NULL), with the nearest
 * that is known. */
void keys_check(struct reading *r, const config_setting_t *group, const struct option_table *table,
		const char *const *extra);

/* The option with this path, or NULL. */
const struct option *keys_find(const struct option_table *table, const char *path);

#define HINT_SIZE 300

/* What somebody who wrote `path` may have meant, as the end of a message: 'did you
 * mean "workers.threads"?', or what is known in that group.  Returns `out`. */
const char *keys_hint(char out[HINT_SIZE], const struct option_table *table, const char *const *extra,
		      const char *path);

#endif
