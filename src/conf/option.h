/* Every setting of the configuration file: one row a setting.
 *
 * A row says where the value stands in the file, what it must be, and where it
 * goes in the struct that the table describes (`struct conf`, `struct
 * conf_module`, `struct conf_route`).  A new option is one row here, one field
 * in conf.h and its lines in conf/strandd.conf.  Constant data: any thread.
 */
#ifndef STRANDD_CONF_OPTION_H
#define STRANDD_CONF_OPTION_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <libconfig.h>

#include "base/err.h"

enum option_type {
	OPTION_STRING,	/* char *; min and max are its length in bytes */
	OPTION_DATABASE,	/* the same; not what libpq takes for a connection string */
	OPTION_PORT,	/* char *; a number, or text as libpq takes it */
	OPTION_INT,	/* int */
	OPTION_INT64,	/* int64_t */
	OPTION_BOOL,	/* bool */
	OPTION_LEVEL,	/* enum log_level */
};

struct option {
	const char *path;	/* "workers.threads"; in a list's table the field's name */
	enum option_type type;
	const char *unit;	/* "ms", "bytes", or NULL */
	int64_t min, max;
	const char *fallback;	/* default as written in a file, NULL = none */
	size_t offset;		/* of the field in the struct */
	bool required;		/* must be given: fields of lists */
	const char *help;	/* one line */
};

struct option_table {
	const struct option *options;
	size_t n;
};

extern const struct option_table conf_options;	/* of struct conf */
extern const struct option_table module_options;	/* of struct conf_module */
extern const struct option_table route_options;	/* of struct conf_route */

/* Fills the fields of `base` with the defaults; STRAND_ENOMEM. */
int options_default(const struct option_table *table, void *base) MUST_CHECK;
/* Frees the strings. */
void options_release(const struct option_table *table, void *base);

/* Puts the setting's value into `base`.  `file` is for messages.  STRAND_EINVAL,
 * STRAND_ENOMEM. */
int option_read(const struct option *o, void *base, const config_setting_t *s, const char *file,
		struct err *e) MUST_CHECK;

#endif
