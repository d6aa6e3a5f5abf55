#include "stats/exposition.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

/* Backslash and line feed everywhere, the quote in label values only. */
static void write_escaped(struct buf *out, const char *text, bool label)
{
	for (; *text; text++) {
		if (*text == '\n')
			buf_adds(out, "\\n");
		else if (*text == '\\')
			buf_adds(out, "\\\\");
		else if (*text == '"' && label)
			buf_adds(out, "\\\"");
		else
			buf_add(out, text, 1);
	}
}

void exposition_head(struct buf *out, const struct exposition *x)
{
	buf_addf(out, "# HELP " METRIC_PREFIX "%s%s ", x->name, x->suffix);
	write_escaped(out, x->help, false);
	buf_addf(out, "\n# TYPE " METRIC_PREFIX "%s%s %s\n", x->name, x->suffix, x->type);
}

/* A sample's name and labels, up to the value. */
static void write_name(struct buf *out, const struct exposition *x, const char *tag, const char *source)
{
	buf_addf(out, METRIC_PREFIX "%s%s", x->name, x->suffix);
	if (tag) {
		buf_adds(out, "{tag=\"");
		write_escaped(out, tag, true);
		buf_adds(out, "\",source=\"");
		write_escaped(out, source, true);
		buf_adds(out, "\"}");
	}
	buf_adds(out, " ");
}

/* A full stop for the decimal point, whatever the locale says. */
static void write_double(struct buf *out, double value)
{
	char text[64], *comma;

	if (isnan(value)) {
		buf_adds(out, "NaN\n");
	} else if (isinf(value)) {
		buf_adds(out, value > 0 ? "+Inf\n" : "-Inf\n");
	} else {
		snprintf(text, sizeof(text), "%.15g", value);
		comma = strchr(text, ',');
		if (comma)
			*comma = '.';
		buf_addf(out, "%s\n", text);
	}
}

void exposition_count(struct buf *out, const struct exposition *x, const char *tag, const char *source,
		      uint64_t value)
{
	write_name(out, x, tag, source);
	buf_addf(out, "%llu\n", (unsigned long long)value);
}

void exposition_value(struct buf *out, const struct exposition *x, const char *tag, const char *source,
		      double value)
{
	write_name(out, x, tag, source);
	write_double(out, value);
}
