/* Every setting of the configuration: one row a setting.
 *
 * A row says where the value stands in the file, what it must be, and where it
 * goes in the struct that the table describes (`struct conf`, `struct
 * conf_module`, `struct conf_route`).  A new option is one row here and one field
 * in conf.h.  Constant data: any thread.
 */
#ifndef STRANDD_CONF_OPTION_H
#define STRANDD_CONF_OPTION_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum option_type {
	OPTION_STRING,	/* char *; min and max are its length in bytes */
	OPTION_DATABASE,	/* the same; not what libpq takes for a connection string */
	OPTION_PORT,	/* char *; a number, or text: several with commas */
	OPTION_STRINGS,	/* char **, ends with NULL, NULL when not given; bounds of each as OPTION_STRING */
	OPTION_INT,	/* int */
	OPTION_DECIMAL,	/* double */
	OPTION_DURATION,	/* int64_t, milliseconds; "none" is 0 where that is the default */
	OPTION_SIZE,	/* int64_t, bytes */
	OPTION_BOOL,	/* bool */
	OPTION_LEVEL,	/* enum log_level */
	OPTION_FORMAT,	/* enum log_format */
	OPTION_DELIVERY,	/* enum conf_delivery */
};

struct option {
	const char *path;	/* "workers.threads"; in a list's table the field's name */
	enum option_type type;
	const char *unit;	/* of a whole number: "strands", or NULL */
	int64_t min, max;
	const char *fallback;	/* default as text, NULL = none */
	const char *example;	/* for the sample, where there is no default */
	size_t offset;		/* of the field in the struct */
	bool required;		/* must be given: fields of lists */
	bool secret;		/* never shown, nor taken from arguments */
	bool reloadable;	/* SIGHUP changes it; else it needs a restart */
	const char *help;	/* one line */
};

struct option_table {
	const struct option *options;
	size_t n;
};

/* Most rows of a table, for readers with room for so many; of a list's table, whose
 * rows are a bit each in conf_route's `given`, fewer. */
enum { OPTIONS_MAX = 64, LIST_OPTIONS_MAX = 32 };

extern const struct option_table conf_options;	/* of struct conf */
extern const struct option_table module_options;	/* of struct conf_module */
extern const struct option_table route_options;	/* of struct conf_route */

/* The names of the values of a type that is an enum, in its order, ends with NULL;
 * NULL for other types.  Static storage. */
const char *const *option_choices(enum option_type type);

#endif
