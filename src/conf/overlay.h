/* Settings that come after the files: STRANDD_* of the environment, then --set.
 */
#ifndef STRANDD_CONF_OVERLAY_H
#define STRANDD_CONF_OVERLAY_H

#include "conf/option.h"
#include "conf/reading.h"

#define VARIABLE_PREFIX "STRANDD_"
#define VARIABLE_SIZE 80

/* STRANDD_WORKERS_THREADS for workers.threads.  Returns `out`. */
const char *overlay_variable(char out[VARIABLE_SIZE], const struct option *o);

/* `environment` as environ.  A variable of ours that is near an option's but none is
 * warned of. */
void overlay_environment(struct reading *r, const char *const *environment);

/* "path=value" each; ends with NULL.  A password is refused: everybody sees
 * arguments. */
void overlay_sets(struct reading *r, const char *const *sets);

#endif
