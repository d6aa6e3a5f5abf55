/* The text of a configuration file, looked at before libconfig reads it.
 */
#ifndef STRANDD_CONF_SOURCE_H
#define STRANDD_CONF_SOURCE_H

#include <stdbool.h>
#include <stddef.h>

#include <libconfig.h>

#include "base/buf.h"
#include "conf/reading.h"

/* Reports what libconfig 1.5 takes and gets wrong: whole numbers that wrap around,
 * numbers with a fraction that overflow; and @include.  Adds to `sound` the text with
 * each such number bent into one that source_bent knows, on the same lines.  False:
 * libconfig must not see this text. */
bool source_check(const char *text, struct reading *r, struct buf *sound);

/* Is the setting a number that was reported?  To be asked only if r->bent. */
bool source_bent(const config_setting_t *s);

/* Line `line` (from 1) without the blanks around it, copied and cut to `size`. */
void source_line(const char *text, int line, char *out, size_t size);

#endif
