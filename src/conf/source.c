#include "conf/source.h"

#include <ctype.h>
#include <errno.h>
#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "conf/secret.h"

#define WIDE "does not fit in 32 bits"

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
static const char *skip_opaque(struct reading *r, const char *p, int *line)
{
	const char *end;

	if (*p == '#' || (p[0] == '/' && p[1] == '/'))
		return p + strcspn(p, "\n");
	if (*p != '"' && !(p[0] == '/' && p[1] == '*'))
		return p;
	end = *p == '"' ? string_end(p) : comment_end(p);
	if (!end)
		report_error(r->reports, &(struct place){ r->file, *line }, "the %s that begins here has no end",
			     *p == '"' ? "string" : "comment");
	for (; end && p < end; p++)
		*line += *p == '\n';
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

/* Judges the number that starts at `p`. */
static void check_number(struct reading *r, const char *text, const char *p, int line)
{
	bool hex = p[0] == '0' && (p[1] == 'x' || p[1] == 'X');
	size_t len = hex ? 2 + strspn(p + 2, "0123456789abcdefABCDEF") : strspn(p, "+-0123456789.eE");
	const char *fault = number_fault(p, len, hex);
	const struct place place = { r->file, line };
	int shown = len < 40 ? (int)len : 40;

	if (!fault)
		return;
	if (secret_in_line(text, line))
		report_error(r->reports, &place, "a number here %s; a password stands in double quotes", fault);
	else if (strcmp(fault, WIDE) == 0)
		report_error(r->reports, &place, "the number %.*s %s; write %.*sL", shown, p, fault, shown, p);
	else
		report_error(r->reports, &place, "the number %.*s %s", shown, p, fault);
}

static bool name_char(char c)
{
	return isalnum((unsigned char)c) || c == '_' || c == '-' || c == '*';
}

/* The end of the word or number at `p`; NULL when neither starts there. */
static const char *skip_word(struct reading *r, const char *text, const char *p, int line)
{
	if (isalpha((unsigned char)*p) || *p == '_' || *p == '*') {
		while (name_char(*p))
			p++;
		return p;
	}
	if (isdigit((unsigned char)*p) ||
	    ((*p == '-' || *p == '+' || *p == '.') && isdigit((unsigned char)p[1]))) {
		check_number(r, text, p, line);
		p++;
		while (name_char(*p) || *p == '.' || *p == '+')
			p++;
		return p;
	}
	return NULL;
}

bool source_check(const char *text, struct reading *r)
{
	const char *p = text;
	int line = 1;

	while (*p) {
		const char *end = skip_opaque(r, p, &line);

		if (!end)
			return false;
		if (end == p)
			end = skip_word(r, text, p, line);
		if (strncmp(p, "@include", 8) == 0) {
			report_error(r->reports, &(struct place){ r->file, line },
				     "@include is refused: more files belong in conf.d beside the first one");
			return false;
		}
		if (end)
			p = end;
		else
			line += *p++ == '\n';
	}
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
