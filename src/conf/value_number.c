#include "conf/value_number.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "conf/report.h"
#include "conf/unit.h"
#include "conf/value.h"

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
		       o->unit ? " " : "", o->unit ? o->unit : "", value_has_none(o) ? ", or none" : "");
}

int value_set_int(const struct option *o, void *base, const char *text, struct err *e)
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
	*(int *)value_field(o, base) = (int)number;
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
		return err_set(e, STRAND_ENOMEM, "out of memory");
	number.offset = 0;
	r = value_set_int(&number, &port, part, e);
	free(part);
	return r;
}

int value_check_ports(const struct option *o, const char *text, struct err *e)
{
	for (;;) {
		size_t len = strcspn(text, ",");
		int r = check_port(o, text, len, e);

		if (r < 0 || !text[len])
			return r;
		text += len + 1;
	}
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

int value_set_unit(const struct option *o, void *base, const char *text, struct err *e)
{
	enum unit_fault fault;
	int64_t value = 0;

	if (value_has_none(o) && strcmp(text, "none") == 0) {
		*(int64_t *)value_field(o, base) = 0;
		return 0;
	}
	fault = o->type == OPTION_SIZE ? size_parse(text, &value) : duration_parse(text, &value);
	if (fault != UNIT_OK)
		return unit_error(o, text, fault, e);
	if (value < o->min || value > o->max)
		return out_of_bounds(o, text, e);
	*(int64_t *)value_field(o, base) = value;
	return 0;
}

int value_set_decimal(const struct option *o, void *base, const char *text, struct err *e)
{
	char quoted[QUOTE_SIZE], wanted[WANTED_SIZE];
	double value = 0;
	enum unit_fault fault = decimal_parse(text, &value);

	if (fault != UNIT_OK && fault != UNIT_RANGE)
		return err_set(e, STRAND_EINVAL, "%s must be %s, not %s", o->path, value_wanted(o, wanted),
			       quote(quoted, text));
	if (fault == UNIT_RANGE || value < (double)o->min || value > (double)o->max)
		return out_of_bounds(o, text, e);
	*(double *)value_field(o, base) = value;
	return 0;
}
