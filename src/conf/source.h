/* The text of a configuration file, looked at before libconfig reads it.
 * Main thread, or any that owns what it passes.
 */
#ifndef STRANDD_CONF_SOURCE_H
#define STRANDD_CONF_SOURCE_H

#include <stdbool.h>

#include "base/buf.h"
#include "base/err.h"

/* Reads the whole file, at most 1 MiB.  *ret_open_to_others: more than its
 * owner may read it.  STRAND_ENOENT, STRAND_EINVAL, STRAND_ENOMEM. */
int source_read(struct buf *text, const char *file, bool *ret_open_to_others,
		struct err *e) MUST_CHECK;

/* Refuses what libconfig 1.5 takes and gets wrong: whole numbers that wrap
 * around, numbers with a fraction that overflow; and @include. */
int source_check(const char *text, const char *file, struct err *e) MUST_CHECK;

/* Line `line` (from 1) without the blanks around it, copied and cut to `size`. */
void source_line(const char *text, int line, char *out, size_t size);

#endif
