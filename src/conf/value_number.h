/* Values that are numbers, with bounds and units; private to src/conf, as value.h. */
#ifndef STRANDD_CONF_VALUE_NUMBER_H
#define STRANDD_CONF_VALUE_NUMBER_H

#include <stdbool.h>
#include <string.h>

#include "base/err.h"
#include "conf/option.h"

static inline void *value_field(const struct option *o, void *base)
{
	return (char *)base + o->offset;
}

/* Is "none" a value of the option?  It is a 0 then. */
static inline bool value_has_none(const struct option *o)
{
	return o->fallback && strcmp(o->fallback, "none") == 0;
}

/* What value_set does for these types; a duration and a size are of one kind. */
int value_set_int(const struct option *o, void *base, const char *text, struct err *e) MUST_CHECK;
int value_set_decimal(const struct option *o, void *base, const char *text, struct err *e) MUST_CHECK;
int value_set_unit(const struct option *o, void *base, const char *text, struct err *e) MUST_CHECK;

/* Is it a port, or several with commas between, as goes with several hosts? */
int value_check_ports(const struct option *o, const char *text, struct err *e) MUST_CHECK;

#endif
