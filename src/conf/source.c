#include "conf/source.h"

#include <ctype.h>
#include <errno.h>
#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "conf/secret.h"

#define WIDE "does not fit in 32 bits"

/* What stands in a bent number's place: of its type, because the elements of an array
 * have one, and out of bounds for every setting. */
#define BENT_INT "-2147483648"
#define BENT_LONG "-9223372036854775808L"
#define BENT_FRACTION "-1.0e300"

/* The text being looked at. */
struct walk {
	struct reading *r;
	const char *text;
	const char *copied;	/* up to here it is in `sound` */
	struct buf *sound;
	int line;
};

static const char *string_end(const char *p)
{
	for (p++; *p && *p != '"'; p++)
		p += *p == '\\' && p[1];
	return *p ? p + 1 : NULL;
}

static const char *comment_end(const char *p)
{
	const char *end = strstr(p + 2, "*/");

	return end ? end + 2 : NULL;
}

/* The end of a comment or string that starts at `p`, or `p` if none does.  NULL, and
 * reported: it has no end; libconfig would take the rest of the file for it, and say
 * nothing of a comment.  Counts the lines inside. */
static const char *skip_opaque(struct walk *w, const char *p)
{
	const char *end;

	if (*p == '#' || (p[0] == '/' && p[1] == '/'))
		return p + strcspn(p, "\n");
	if (*p != '"' && !(p[0] == '/' && p[1] == '*'))
		return p;
	end = *p == '"' ? string_end(p) : comment_end(p);
	if (!end)
		report_error(w->r->reports, &(struct place){ w->r->file, w->line },
			     "the %s that begins here has no end", *p == '"' ? "string" : "comment");
	for (; end && p < end; p++)
		w->line += *p == '\n';
	return end;
}

/* What is wrong with the number of `len` bytes at `p`, or NULL. */
static const char *number_fault(const char *p, size_t len, bool hex)
{
	long long value;

	errno = 0;
	if (!hex && memchr(p, '.', len))
		return isinf(strtod(p, NULL)) ? "is too large" : NULL;
	if (!hex && (memchr(p, 'e', len) || memchr(p, 'E', len)))
		return "must be written in full";
	/* libconfig wraps hexadecimal at 32 bits unsigned, and means the signed number. */
	value = strtoll(p, NULL, hex ? 16 : 10);
	if (errno == ERANGE)
		return "is too large";
	return p[len] != 'L' && (value > INT32_MAX || value < INT32_MIN) ? WIDE : NULL;
}

static void report_number(const struct walk *w, const char *p, size_t len, const char *fault)
{
	const struct place place = { w->r->file, w->line };
	int shown = len < 40 ? (int)len : 40;

	if (secret_in_line(w->text, w->line))
		report_error(w->r->reports, &place, "a number here %s; a password stands in double quotes", fault);
	else if (strcmp(fault, WIDE) == 0)
		report_error(w->r->reports, &place, "the number %.*s %s; write %.*sL", shown, p, fault, shown, p);
	else
		report_error(w->r->reports, &place, "the number %.*s %s", shown, p, fault);
}

/* Judges the number that starts at `p`, and bends it if it is reported. */
static void check_number(struct walk *w, const char *p)
{
	bool hex = p[0] == '0' && (p[1] == 'x' || p[1] == 'X');
	size_t len = hex ? 2 + strspn(p + 2, "0123456789abcdefABCDEF") : strspn(p, "+-0123456789.eE");
	const char *fault = number_fault(p, len, hex);
	size_t longs = strspn(p + len, "L");
	bool fraction = !hex && (memchr(p, '.', len) || memchr(p, 'e', len) || memchr(p, 'E', len));

	if (!fault)
		return;
	report_number(w, p, len, fault);
	buf_add(w->sound, w->copied, (size_t)(p - w->copied));
	buf_adds(w->sound, fraction ? BENT_FRACTION : longs ? BENT_LONG : BENT_INT);
	w->copied = p + len + longs;
	w->r->bent = true;
}

bool source_bent(const config_setting_t *s)
{
	switch (config_setting_type(s)) {
	case CONFIG_TYPE_INT:
		return config_setting_get_int(s) == INT32_MIN;
	case CONFIG_TYPE_INT64:
		return config_setting_get_int64(s) == INT64_MIN;
	case CONFIG_TYPE_FLOAT:
		return config_setting_get_float(s) < -0.9e300;
	default:
		return false;
	}
}

static bool name_char(char c)
{
	return isalnum((unsigned char)c) || c == '_' || c == '-' || c == '*';
}

/* The end of the word or number at `p`; NULL when neither starts there. */
static const char *skip_word(struct walk *w, const char *p)
{
	if (isalpha((unsigned char)*p) || *p == '_' || *p == '*') {
		while (name_char(*p))
			p++;
		return p;
	}
	if (isdigit((unsigned char)*p) ||
	    ((*p == '-' || *p == '+' || *p == '.') && isdigit((unsigned char)p[1]))) {
		check_number(w, p);
		p++;
		while (name_char(*p) || *p == '.' || *p == '+')
			p++;
		return p;
	}
	return NULL;
}

bool source_check(const char *text, struct reading *r, struct buf *sound)
{
	struct walk w = { r, text, text, sound, 1 };
	const char *p = text;

	r->bent = false;
	while (*p) {
		const char *end = skip_opaque(&w, p);

		if (!end)
			return false;
		if (end == p)
			end = skip_word(&w, p);
		if (strncmp(p, "@include", 8) == 0) {
			report_error(r->reports, &(struct place){ r->file, w.line },
				     "@include is refused: more files belong in conf.d beside the first one");
			return false;
		}
		if (end)
			p = end;
		else
			w.line += *p++ == '\n';
	}
	buf_adds(sound, w.copied);
	return true;
}

void source_line(const char *text, int line, char *out, size_t size)
{
	size_t len;

	for (; line > 1 && text; line--) {
		text = strchr(text, '\n');
		text = text ? text + 1 : NULL;
	}
	if (!text)
		text = "";
	text += strspn(text, " \t");
	len = strcspn(text, "\r\n");
	while (len > 0 && (text[len - 1] == ' ' || text[len - 1] == '\t'))
		len--;
	if (len > size - 1)
		len = size - 1;
	memcpy(out, text, len);
	out[len] = '\0';
}
