#include "conf/setting.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "conf/source.h"
#include "conf/value.h"

static bool is_integer(const config_setting_t *s)
{
	return config_setting_type(s) == CONFIG_TYPE_INT || config_setting_type(s) == CONFIG_TYPE_INT64;
}

static int wrong_type(const struct option *o, const config_setting_t *s, struct err *e)
{
	char wanted[WANTED_SIZE];

	return err_set(e, STRAND_EINVAL, "%s must be %s, not %s", o->path, value_wanted(o, wanted),
		       setting_type_name(s));
}

static int read_strings(const struct option *o, void *base, const config_setting_t *s, struct err *e)
{
	int n = config_setting_length(s);
	char **strings;

	if (config_setting_type(s) != CONFIG_TYPE_ARRAY && config_setting_type(s) != CONFIG_TYPE_LIST)
		return wrong_type(o, s, e);
	for (int i = 0; i < n; i++) {
		if (!config_setting_get_string_elem(s, i))
			return err_set(e, STRAND_EINVAL, "%s must hold strings only, not %s", o->path,
				       setting_type_name(config_setting_get_elem(s, (unsigned)i)));
	}
	strings = calloc((size_t)n + 1, sizeof(*strings));
	if (!strings)
		return err_set(e, STRAND_ENOMEM, "out of memory");
	for (int i = 0; i < n; i++)
		strings[i] = strdup(config_setting_get_string_elem(s, i));
	return value_take_strings(o, base, strings, (size_t)n, e);
}

/* The number as it would stand in an argument. */
static int read_number(const struct option *o, void *base, const config_setting_t *s, struct err *e)
{
	double value = config_setting_get_float(s);
	char text[64];

	if (is_integer(s))
		snprintf(text, sizeof(text), "%lld", config_setting_get_int64(s));
	else if (value > -1e15 && value < 1e15)
		value_decimal(value, text);
	else
		snprintf(text, sizeof(text), "%g", value);
	return value_set(o, base, text, e);
}

/* Which kinds of settings say an option of this type. */
static bool takes(const struct option *o, const config_setting_t *s)
{
	switch (config_setting_type(s)) {
	case CONFIG_TYPE_BOOL:
		return o->type == OPTION_BOOL;
	case CONFIG_TYPE_INT:
	case CONFIG_TYPE_INT64:
		return o->type == OPTION_INT || o->type == OPTION_PORT || o->type == OPTION_DECIMAL ||
		       o->type == OPTION_DURATION || o->type == OPTION_SIZE;
	case CONFIG_TYPE_FLOAT:
		return o->type == OPTION_DECIMAL;
	case CONFIG_TYPE_STRING:
		return o->type != OPTION_INT && o->type != OPTION_DECIMAL && o->type != OPTION_BOOL;
	default:
		return false;
	}
}

static int read_value(const struct option *o, void *base, const config_setting_t *s, struct err *e)
{
	if (o->type == OPTION_STRINGS)
		return read_strings(o, base, s, e);
	if (!takes(o, s))
		return wrong_type(o, s, e);
	switch (config_setting_type(s)) {
	case CONFIG_TYPE_BOOL:
		return value_set(o, base, config_setting_get_bool(s) ? "true" : "false", e);
	case CONFIG_TYPE_STRING:
		return value_set(o, base, config_setting_get_string(s), e);
	default:
		return read_number(o, base, s, e);
	}
}

bool setting_read(struct reading *r, const struct option *o, void *base, const config_setting_t *s)
{
	struct place place = reading_place(r, s);
	struct err e;
	int ret;

	if (r->bent && source_bent(s))
		return false;
	ret = read_value(o, base, s, &e);
	report_err(r->reports, &place, ret, &e);
	return ret == 0;
}

const char *setting_type_name(const config_setting_t *s)
{
	switch (config_setting_type(s)) {
	case CONFIG_TYPE_GROUP:
		return "a group in { }";
	case CONFIG_TYPE_INT:
	case CONFIG_TYPE_INT64:
		return "a whole number";
	case CONFIG_TYPE_FLOAT:
		return "a number with a fraction";
	case CONFIG_TYPE_STRING:
		return "a string";
	case CONFIG_TYPE_BOOL:
		return "true or false";
	case CONFIG_TYPE_ARRAY:
		return "an array in [ ]";
	case CONFIG_TYPE_LIST:
		return "a list in ( )";
	default:
		return "nothing";
	}
}
