#include "conf/value.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "conf/unit.h"
#include "conf/value_number.h"

static bool strings_text(char *const *strings, struct buf *out)
{
	for (char *const *s = strings; s && *s; s++) {
		buf_adds(out, s == strings ? "" : ", ");
		buf_adds(out, *s);
	}
	return strings != NULL;
}

const char *value_decimal(double value, char out[DECIMAL_SIZE])
{
	int digits = 1;

	/* The fewest digits that read back as the same number. */
	do
		snprintf(out, DECIMAL_SIZE, "%.*f", digits, value);
	while (digits++ < 17 && (strtod(out, NULL) < value || strtod(out, NULL) > value));
	return out;
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
			 value_has_none(o) ? "30s" : o->fallback, value_has_none(o) ? ", or \"none\"" : "");
	return out;
}

bool value_text(const struct option *o, const void *base, struct buf *out)
{
	const void *place = (const char *)base + o->offset;
	char text[DECIMAL_SIZE];

	switch (o->type) {
	case OPTION_STRING:
	case OPTION_DATABASE:
	case OPTION_PORT:
		if (*(char *const *)place)
			buf_adds(out, *(char *const *)place);
		return *(char *const *)place != NULL;
	case OPTION_STRINGS:
		return strings_text(*(char **const *)place, out);
	case OPTION_INT:
		buf_addf(out, "%d", *(const int *)place);
		break;
	case OPTION_DECIMAL:
		buf_adds(out, value_decimal(*(const double *)place, text));
		break;
	case OPTION_DURATION:
		buf_adds(out, !*(const int64_t *)place && value_has_none(o) ? "none"
			 : duration_format(*(const int64_t *)place, text));
		break;
	case OPTION_SIZE:
		buf_adds(out, size_format(*(const int64_t *)place, text));
		break;
	case OPTION_BOOL:
		buf_adds(out, *(const bool *)place ? "true" : "false");
		break;
	case OPTION_LEVEL:
	case OPTION_FORMAT:
	case OPTION_DELIVERY:
		buf_adds(out, option_choices(o->type)[*(const unsigned *)place]);
		break;
	}
	return true;
}

bool value_equal(const struct option *o, const void *a, const void *b)
{
	struct buf texts[2];
	bool given[2], equal;

	buf_init(&texts[0]);
	buf_init(&texts[1]);
	given[0] = value_text(o, a, &texts[0]);
	given[1] = value_text(o, b, &texts[1]);
	equal = given[0] == given[1] && !texts[0].failed && !texts[1].failed &&
		strcmp(texts[0].data, texts[1].data) == 0;
	buf_release(&texts[0]);
	buf_release(&texts[1]);
	return equal;
}
