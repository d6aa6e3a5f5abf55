/* Values of options: from text into the struct, and back.
 * Any thread that owns the struct.
 */
#ifndef STRANDD_CONF_VALUE_H
#define STRANDD_CONF_VALUE_H

#include <stdbool.h>

#include "base/buf.h"
#include "base/err.h"
#include "conf/option.h"

/* Fills the fields of `base` with the defaults; STRAND_ENOMEM. */
int values_default(const struct option_table *table, void *base) MUST_CHECK;
/* Frees what the fields hold, which are then empty. */
void values_release(const struct option_table *table, void *base);

/* Frees an array that ends with NULL, and the strings in it; takes NULL. */
void strings_free(char **strings);

/* Puts a value into `base`, as it stands in an environment variable or argument:
 * strings without quotes, several strings with commas between.  STRAND_EINVAL with
 * the fault in e->text, which starts with the option's path; the value is not
 * quoted where it may be a secret.  STRAND_ENOMEM. */
int value_set(const struct option *o, void *base, const char *text, struct err *e) MUST_CHECK;
/* Takes an array of strings and what is in it, also on failure. */
int value_take_strings(const struct option *o, void *base, char **strings, size_t n, struct err *e) MUST_CHECK;

#define WANTED_SIZE 128
/* What a value must be: "a whole number", 'one of "a", "b"'.  Returns `out`. */
const char *value_wanted(const struct option *o, char out[WANTED_SIZE]);

#define DECIMAL_SIZE 64
/* A number below 10^15 with a fraction, "2.0"; returns `out`. */
const char *value_decimal(double value, char out[DECIMAL_SIZE]);

/* Adds the value as value_set takes it.  False, and nothing added: it has none. */
bool value_text(const struct option *o, const void *base, struct buf *out);
bool value_equal(const struct option *o, const void *a, const void *b);

#endif
