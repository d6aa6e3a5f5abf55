#include "conf/report.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

void reports_release(struct reports *r)
{
	for (size_t i = 0; i < r->n; i++)
		free(r->list[i].text);
	free(r->list);
	*r = (struct reports){ 0 };
}

static bool make_room(struct reports *r)
{
	size_t size = r->size ? 2 * r->size : 8;
	struct report *list;

	if (r->n < r->size)
		return true;
	list = realloc(r->list, size * sizeof(*list));
	if (!list) {
		r->no_memory = true;
		return false;
	}
	r->list = list;
	r->size = size;
	return true;
}

static void add(struct reports *r, bool warning, const struct place *place, const char *fmt, va_list args)
	__attribute__((format(printf, 4, 0)));

static void add(struct reports *r, bool warning, const struct place *place, const char *fmt, va_list args)
{
	char where[PLACE_SIZE], *what = NULL, *text = NULL;

	r->n_errors += !warning;
	if (r->n >= REPORTS_MAX || !make_room(r))
		return;
	place_text(where, place);
	if (vasprintf(&what, fmt, args) < 0 ||
	    asprintf(&text, "%s: %s%s", where, warning ? "warning: " : "", what) < 0)
		r->no_memory = true;
	else
		r->list[r->n++] = (struct report){ warning, *place, text };
	free(what);
}

void report_error(struct reports *r, const struct place *place, const char *fmt, ...)
{
	va_list args;

	va_start(args, fmt);
	add(r, false, place, fmt, args);
	va_end(args);
}

void report_warning(struct reports *r, const struct place *place, const char *fmt, ...)
{
	va_list args;

	va_start(args, fmt);
	add(r, true, place, fmt, args);
	va_end(args);
}

void report_err(struct reports *r, const struct place *place, int code, const struct err *e)
{
	if (code == STRAND_ENOMEM)
		r->no_memory = true;
	else if (code < 0)
		report_error(r, place, "%s", e->text);
}

static size_t rank(const struct report *report, const char *const *names, size_t n)
{
	size_t i = 0;

	while (i < n && names[i] != report->place.where)
		i++;
	return i;
}

static bool comes_before(const struct report *a, const struct report *b, const char *const *names, size_t n)
{
	size_t x = rank(a, names, n), y = rank(b, names, n);

	return x < y || (x == y && x < n && a->place.line < b->place.line);
}

void reports_sort(struct reports *r, const char *const *names, size_t n)
{
	for (size_t i = 1; i < r->n; i++) {
		struct report moved = r->list[i];
		size_t at = i;

		for (; at > 0 && comes_before(&moved, &r->list[at - 1], names, n); at--)
			r->list[at] = r->list[at - 1];
		r->list[at] = moved;
	}
}

const char *place_text(char out[PLACE_SIZE], const struct place *place)
{
	if (!place->where)
		snprintf(out, PLACE_SIZE, "default");
	else if (place->line > 0)
		snprintf(out, PLACE_SIZE, "%.270s:%d", place->where, place->line);
	else
		snprintf(out, PLACE_SIZE, "%.270s", place->where);
	return out;
}

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
