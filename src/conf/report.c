#include "conf/report.h"

#include <stdarg.h>
#include <stdio.h>

#include "conf/value.h"

const char *quote(char out[QUOTE_SIZE], const char *text)
{
	/* The longest escape, the cut, the closing quote and the NUL must fit. */
	const size_t end = QUOTE_SIZE - sizeof("\\xff...\"");
	size_t len = 0;

	out[len++] = '"';
	for (; *text && len < end; text++) {
		unsigned char c = (unsigned char)*text;

		if (c == '"' || c == '\\') {
			out[len++] = '\\';
			out[len++] = (char)c;
		} else if (c < 0x20 || c == 0x7f) {
			len += (size_t)snprintf(out + len, QUOTE_SIZE - len, "\\x%02x", (unsigned)c);
		} else {
			out[len++] = (char)c;
		}
	}
	snprintf(out + len, QUOTE_SIZE - len, "%s\"", *text ? "..." : "");
	return out;
}

static int report_va(struct err *e, const char *file, int line, const char *fmt, va_list args)
	__attribute__((format(printf, 4, 0)));

static int report_va(struct err *e, const char *file, int line, const char *fmt, va_list args)
{
	char text[sizeof(e->text)];

	vsnprintf(text, sizeof(text), fmt, args);
	if (line > 0)
		return err_set(e, STRAND_EINVAL, "%s:%d: %s", file, line, text);
	return err_set(e, STRAND_EINVAL, "%s: %s", file, text);
}

int report(struct err *e, const char *file, const config_setting_t *s, const char *fmt, ...)
{
	va_list args;
	int r;

	va_start(args, fmt);
	r = report_va(e, file, s ? (int)config_setting_source_line(s) : 0, fmt, args);
	va_end(args);
	return r;
}

int report_line(struct err *e, const char *file, int line, const char *fmt, ...)
{
	va_list args;
	int r;

	va_start(args, fmt);
	r = report_va(e, file, line, fmt, args);
	va_end(args);
	return r;
}

int setting_read(const struct option *o, void *base, const config_setting_t *s, const char *file,
		 struct err *e)
{
	struct err fault;
	int r = value_read(o, base, s, &fault);

	return r == STRAND_EINVAL ? report(e, file, s, "%s", fault.text)
		: r < 0 ? err_set(e, r, "%s: %s", file, fault.text) : 0;
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
