#include "base/log_render.h"

#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <json.h>

#define MESSAGE_LIMIT 2600	/* with escapes; the two make less than 4 KiB a line */
#define VALUE_LIMIT 300
#define JSON_LIMIT SIZE_MAX

/* The code point of a letter that must not reach a terminal as it is, 0 for others;
 * *ret_len is the letter's length.  C0 and C1 controls, and what Unicode has for
 * breaking lines and turning the direction of writing. */
static unsigned harmful(const unsigned char *p, size_t *ret_len)
{
	*ret_len = 1;
	if (*p < 0x20 || *p == 0x7f)
		return *p;
	if (*p == 0xc2 && p[1] < 0xa0) {
		*ret_len = 2;
		return p[1];
	}
	if (*p == 0xe2 && (p[1] == 0x80 || p[1] == 0x81)) {
		unsigned code = 0x2000u | (p[1] & 1u) << 6 | (p[2] & 0x3fu);
		*ret_len = 3;
		if (code == 0x200e || code == 0x200f || (code >= 0x2028 && code <= 0x202e) ||
		    (code >= 0x2066 && code <= 0x2069))
			return code;
		*ret_len = 1;
	}
	return 0;
}

static void add_escape(struct buf *out, unsigned code)
{
	if (code == '\n')
		buf_adds(out, "\\n");
	else if (code == '\r')
		buf_adds(out, "\\r");
	else if (code == '\t')
		buf_adds(out, "\\t");
	else
		buf_addf(out, "\\u%04x", code);
}

void log_escape(struct buf *out, const char *text, bool quoted, size_t limit)
{
	const unsigned char *p = (const unsigned char *)text;
	size_t start = out->len, len;

	for (; *p; p += len) {
		unsigned code = harmful(p, &len);
		bool letter_begins = (*p & 0xc0) != 0x80;
		if (letter_begins && out->len - start >= limit) {
			buf_adds(out, "...");
			return;
		}
		if (code) {
			add_escape(out, code);
			continue;
		}
		if (quoted && (*p == '"' || *p == '\\'))
			buf_add(out, "\\", 1);
		buf_add(out, p, 1);
	}
}

/* Can it stand without quotes, and not be taken for more than one value? */
static bool is_word(const char *value)
{
	for (const char *p = value; *p; p++)
		if (*p <= ' ' || *p > '~' || strchr("\"=\\", *p))
			return false;
	return *value;
}

static void add_field(struct buf *out, const char *name, const char *value)
{
	if (!value || !*value)
		return;
	buf_addf(out, " %s=", name);
	if (is_word(value)) {
		log_escape(out, value, false, VALUE_LIMIT);
		return;
	}
	buf_add(out, "\"", 1);
	log_escape(out, value, true, VALUE_LIMIT);
	buf_add(out, "\"", 1);
}

void log_render_text(struct buf *out, const struct log_record *r, bool prefix)
{
	if (prefix)
		buf_addf(out, "<%d>", log_level_priority(r->level));
	buf_addf(out, "%s ", log_level_names[r->level]);
	log_escape(out, r->thread, false, sizeof(r->thread));
	buf_adds(out, ": ");
	log_escape(out, r->message, false, MESSAGE_LIMIT);
	add_field(out, "route", r->route);
	add_field(out, "source", r->source);
	add_field(out, "strand", r->strand);
	if (r->attempt)
		buf_addf(out, " attempt=%d", r->attempt);
	add_field(out, "sqlstate", r->sqlstate);
	if (r->more)
		buf_addf(out, " more=%llu", (unsigned long long)r->more);
	if (r->instance)
		buf_addf(out, " instance=%lld", (long long)r->instance);
	buf_add(out, "\n", 1);
}

static bool put(struct json_object *o, const char *name, struct json_object *value)
{
	return value && json_object_object_add(o, name, value) == 0;
}

static bool put_text(struct json_object *o, const char *name, const char *value)
{
	return !value || !*value || put(o, name, json_object_new_string(value));
}

static bool put_number(struct json_object *o, const char *name, int64_t value)
{
	return !value || put(o, name, json_object_new_int64(value));
}

/* RFC 3339, UTC, microseconds. */
static bool put_time(struct json_object *o, const struct timespec *at)
{
	char seconds[32], text[64];
	struct tm tm;

	gmtime_r(&at->tv_sec, &tm);
	strftime(seconds, sizeof(seconds), "%Y-%m-%dT%H:%M:%S", &tm);
	snprintf(text, sizeof(text), "%s.%06ldZ", seconds, at->tv_nsec / 1000);
	return put_text(o, "ts", text);
}

void log_render_json(struct buf *out, const struct log_record *r)
{
	struct json_object *o = json_object_new_object();
	const char *text;

	if (!o || !put_time(o, &r->at) || !put_text(o, "level", log_level_names[r->level]) ||
	    !put_text(o, "thread", r->thread) ||
	    !put(o, "message", json_object_new_string(r->message)) || !put_text(o, "route", r->route) ||
	    !put_text(o, "source", r->source) || !put_text(o, "strand", r->strand) ||
	    !put_number(o, "attempt", r->attempt) || !put_text(o, "sqlstate", r->sqlstate) ||
	    !put_number(o, "more", (int64_t)r->more) || !put_number(o, "instance", r->instance)) {
		out->failed = true;
		json_object_put(o);
		return;
	}
	text = json_object_to_json_string_ext(o, JSON_C_TO_STRING_PLAIN | JSON_C_TO_STRING_NOSLASHESCAPE);
	if (!text)
		out->failed = true;
	else
		/* What JSON allows inside a string and a terminal obeys. */
		log_escape(out, text, false, JSON_LIMIT);
	buf_add(out, "\n", 1);
	json_object_put(o);
}
