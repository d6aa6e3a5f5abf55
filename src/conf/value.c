#include "conf/value.h"

#include <errno.h>
#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "conf/report.h"
#include "conf/unit.h"

static void *field(const struct option *o, void *base)
{
	return (char *)base + o->offset;
}

static bool is_string(const struct option *o)
{
	return o->type == OPTION_STRING || o->type == OPTION_DATABASE || o->type == OPTION_PORT;
}

static bool has_none(const struct option *o)
{
	return o->fallback && strcmp(o->fallback, "none") == 0;
}

static int no_memory(struct err *e)
{
	return err_set(e, STRAND_ENOMEM, "out of memory");
}

int values_default(const struct option_table *table, void *base)
{
	for (size_t i = 0; i < table->n; i++) {
		const struct option *o = &table->options[i];
		int r = o->fallback ? value_set(o, base, o->fallback, NULL) : 0;

		if (r < 0)
			return r;
	}
	return 0;
}

void strings_free(char **strings)
{
	for (char **s = strings; s && *s; s++)
		free(*s);
	free(strings);
}

void values_release(const struct option_table *table, void *base)
{
	for (size_t i = 0; i < table->n; i++) {
		const struct option *o = &table->options[i];

		if (is_string(o)) {
			free(*(char **)field(o, base));
			*(char **)field(o, base) = NULL;
		} else if (o->type == OPTION_STRINGS) {
			strings_free(*(char ***)field(o, base));
			*(char ***)field(o, base) = NULL;
		}
	}
}

/* --- text that is kept ------------------------------------------------------- */

static int check_length(const struct option *o, const char *text, struct err *e)
{
	size_t len = strlen(text);

	if (len == 0)
		return err_set(e, STRAND_EINVAL, "%s must not be empty%s", o->path,
			       o->required ? "" : "; leave it out instead");
	if (len > (size_t)o->max && o->type != OPTION_PORT)
		return err_set(e, STRAND_EINVAL, "%s is %zu bytes long, at most %" PRId64 " are allowed",
			       o->path, len, o->max);
	return 0;
}

/* libpq would take the place of every other setting from it.  The text is not
 * quoted: it may hold a password. */
static int check_database(const struct option *o, const char *text, struct err *e)
{
	if (!strchr(text, '=') && !strstr(text, "://"))
		return 0;
	return err_set(e, STRAND_EINVAL,
		       "%s must be a name alone, without '=' and '://'; host, user and password"
		       " have settings of their own", o->path);
}

static int set_string(const struct option *o, void *base, const char *text, struct err *e)
{
	char **place = field(o, base), *copy;
	int r = check_length(o, text, e);

	if (r == 0 && o->type == OPTION_DATABASE)
		r = check_database(o, text, e);
	if (r < 0)
		return r;
	copy = strdup(text);
	if (!copy)
		return no_memory(e);
	free(*place);
	*place = copy;
	return 0;
}

int value_take_strings(const struct option *o, void *base, char **strings, size_t n, struct err *e)
{
	char ***place = field(o, base);
	int r = n ? 0 : err_set(e, STRAND_EINVAL, "%s must not be empty; leave it out instead", o->path);

	for (size_t i = 0; i < n && r == 0; i++)
		r = strings[i] ? check_length(o, strings[i], e) : no_memory(e);
	if (r < 0) {
		strings_free(strings);
		return r;
	}
	strings_free(*place);
	*place = strings;
	return 0;
}

static int set_strings(const struct option *o, void *base, const char *text, struct err *e)
{
	char **strings = calloc(strlen(text) + 2, sizeof(*strings));
	size_t n = 0;

	if (!strings)
		return no_memory(e);
	while (*text) {
		size_t len = strcspn(text, ","), start = strspn(text, " "), end = len;

		while (end > start && text[end - 1] == ' ')
			end--;
		start = start < end ? start : end;
		strings[n++] = strndup(text + start, end - start);
		text += len + (text[len] == ',');
	}
	return value_take_strings(o, base, strings, n, e);
}

/* --- numbers ----------------------------------------------------------------- */

static void bound_text(const struct option *o, int64_t bound, char out[UNIT_TEXT_SIZE])
{
	if (o->type == OPTION_DURATION)
		duration_format(bound, out);
	else if (o->type == OPTION_SIZE)
		size_format(bound, out);
	else
		snprintf(out, UNIT_TEXT_SIZE, "%" PRId64, bound);
}

static int out_of_bounds(const struct option *o, const char *text, struct err *e)
{
	char min[UNIT_TEXT_SIZE], max[UNIT_TEXT_SIZE];

	bound_text(o, o->min, min);
	bound_text(o, o->max, max);
	return err_set(e, STRAND_EINVAL, "%s = %.64s is out of bounds: %s to %s%s%s%s", o->path, text, min, max,
		       o->unit ? " " : "", o->unit ? o->unit : "", has_none(o) ? ", or none" : "");
}

static int set_int(const struct option *o, void *base, const char *text, struct err *e)
{
	char quoted[QUOTE_SIZE], *end;
	long long number;

	errno = 0;
	number = strtoll(text, &end, 10);
	if (end == text || *end || (*text != '-' && (*text < '0' || *text > '9')))
		return err_set(e, STRAND_EINVAL, "%s must be a whole number, not %s", o->path,
			       quote(quoted, text));
	if (errno == ERANGE || number < o->min || number > o->max)
		return out_of_bounds(o, text, e);
	*(int *)field(o, base) = (int)number;
	return 0;
}

/* One of several ports; an empty one is libpq's default. */
static int check_port(const struct option *o, const char *text, size_t len, struct err *e)
{
	struct option number = *o;
	char *part;
	int port, r;

	for (; len > 0 && text[len - 1] == ' '; len--)
		;
	for (; len > 0 && *text == ' '; len--)
		text++;
	if (len == 0)
		return 0;
	part = strndup(text, len);
	if (!part)
		return no_memory(e);
	number.offset = 0;
	r = set_int(&number, &port, part, e);
	free(part);
	return r;
}

/* Text may name several: "5432,5433" goes with several hosts. */
static int set_port(const struct option *o, void *base, const char *text, struct err *e)
{
	const char *part = text;

	for (;;) {
		size_t len = strcspn(part, ",");
		int r = check_port(o, part, len, e);

		if (r < 0)
			return r;
		if (!part[len])
			return set_string(o, base, text, e);
		part += len + 1;
	}
}

const char *value_wanted(const struct option *o, char out[WANTED_SIZE])
{
	const char *const *name = option_choices(o->type);
	size_t len = 0;

	for (; name && *name && len < WANTED_SIZE; name++)
		len += (size_t)snprintf(out + len, WANTED_SIZE - len, "%s\"%s\"", len ? ", " : "one of ", *name);
	if (len)
		return out;
	snprintf(out, WANTED_SIZE, "%s", o->type == OPTION_INT || o->type == OPTION_PORT ? "a whole number"
		 : o->type == OPTION_BOOL ? "true or false"
		 : o->type == OPTION_STRINGS ? "an array of strings in [ ]"
		 : o->type == OPTION_STRING || o->type == OPTION_DATABASE ? "a string in double quotes" : "");
	if (o->type == OPTION_DECIMAL)
		snprintf(out, WANTED_SIZE, "a number such as %s", o->fallback);
	if (o->type == OPTION_DURATION || o->type == OPTION_SIZE)
		snprintf(out, WANTED_SIZE, "a number and its unit such as \"%s\"%s",
			 has_none(o) ? "30s" : o->fallback, has_none(o) ? ", or \"none\"" : "");
	return out;
}

static int unit_error(const struct option *o, const char *text, enum unit_fault fault, struct err *e)
{
	bool size = o->type == OPTION_SIZE;
	const char *units = size ? SIZE_UNITS : DURATION_UNITS;
	char quoted[QUOTE_SIZE], wanted[WANTED_SIZE];

	quote(quoted, text);
	switch (fault) {
	case UNIT_MISSING:
		return err_set(e, STRAND_EINVAL, "%s = %.64s lacks its unit: write \"%.64s%s\" or \"%.64s%s\" (units: %s)",
			       o->path, text, text, size ? "B" : "ms", text, size ? "MiB" : "s", units);
	case UNIT_INEXACT:
		return err_set(e, STRAND_EINVAL, "%s = %s is no whole number of %s", o->path, quoted,
			       size ? "bytes" : "milliseconds");
	case UNIT_RANGE:
		return out_of_bounds(o, text, e);
	default:
		return err_set(e, STRAND_EINVAL, "%s must be %s, not %s (units: %s)", o->path,
			       value_wanted(o, wanted), quoted, units);
	}
}

static int set_unit(const struct option *o, void *base, const char *text, struct err *e)
{
	enum unit_fault fault;
	int64_t value = 0;

	if (has_none(o) && strcmp(text, "none") == 0) {
		*(int64_t *)field(o, base) = 0;
		return 0;
	}
	fault = o->type == OPTION_SIZE ? size_parse(text, &value) : duration_parse(text, &value);
	if (fault != UNIT_OK)
		return unit_error(o, text, fault, e);
	if (value < o->min || value > o->max)
		return out_of_bounds(o, text, e);
	*(int64_t *)field(o, base) = value;
	return 0;
}

static int set_decimal(const struct option *o, void *base, const char *text, struct err *e)
{
	char quoted[QUOTE_SIZE], wanted[WANTED_SIZE];
	double value = 0;
	enum unit_fault fault = decimal_parse(text, &value);

	if (fault != UNIT_OK && fault != UNIT_RANGE)
		return err_set(e, STRAND_EINVAL, "%s must be %s, not %s", o->path, value_wanted(o, wanted),
			       quote(quoted, text));
	if (fault == UNIT_RANGE || value < (double)o->min || value > (double)o->max)
		return out_of_bounds(o, text, e);
	*(double *)field(o, base) = value;
	return 0;
}

/* --- names ------------------------------------------------------------------- */

static int set_bool(const struct option *o, void *base, const char *text, struct err *e)
{
	char quoted[QUOTE_SIZE];

	if (strcasecmp(text, "true") != 0 && strcasecmp(text, "false") != 0)
		return err_set(e, STRAND_EINVAL, "%s must be true or false, not %s", o->path,
			       quote(quoted, text));
	*(bool *)field(o, base) = strcasecmp(text, "true") == 0;
	return 0;
}

static int set_choice(const struct option *o, void *base, const char *text, struct err *e)
{
	const char *const *names = option_choices(o->type);
	char quoted[QUOTE_SIZE], wanted[WANTED_SIZE];

	for (int i = 0; names[i]; i++) {
		if (strcmp(names[i], text) == 0) {
			/* Both enums are unsigned ints to the compiler. */
			*(unsigned *)field(o, base) = (unsigned)i;
			return 0;
		}
	}
	return err_set(e, STRAND_EINVAL, "%s must be %s, not %s", o->path, value_wanted(o, wanted),
		       quote(quoted, text));
}

int value_set(const struct option *o, void *base, const char *text, struct err *e)
{
	switch (o->type) {
	case OPTION_STRING:
	case OPTION_DATABASE:
		return set_string(o, base, text, e);
	case OPTION_PORT:
		return set_port(o, base, text, e);
	case OPTION_STRINGS:
		return set_strings(o, base, text, e);
	case OPTION_INT:
		return set_int(o, base, text, e);
	case OPTION_DECIMAL:
		return set_decimal(o, base, text, e);
	case OPTION_DURATION:
	case OPTION_SIZE:
		return set_unit(o, base, text, e);
	case OPTION_BOOL:
		return set_bool(o, base, text, e);
	case OPTION_LEVEL:
	case OPTION_FORMAT:
		return set_choice(o, base, text, e);
	}
	return err_set(e, STRAND_EINVAL, "%s has no type", o->path);
}
