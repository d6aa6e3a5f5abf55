#include "handle/json_scan.h"

#include <string.h>

void json_scan_init(struct json_scan *s, char *text, size_t len)
{
	*s = (struct json_scan){ .at = text, .end = text + len };
}

static void pass_blanks(struct json_scan *s)
{
	while (s->at < s->end && (*s->at == ' ' || *s->at == '\t' || *s->at == '\r' || *s->at == '\n'))
		s->at++;
}

static bool take(struct json_scan *s, char c)
{
	pass_blanks(s);
	if (s->at == s->end || *s->at != c)
		return false;
	s->at++;
	return true;
}

static bool take_string(struct json_scan *s, struct json_span *ret)
{
	if (!take(s, '"'))
		return false;
	ret->at = s->at;
	for (; s->at < s->end; s->at++) {
		if (*s->at == '"') {
			ret->len = (size_t)(s->at - ret->at);
			s->at++;
			return true;
		}
		if (*s->at == '\\' && s->at + 1 < s->end)
			s->at++;
	}
	return false;
}

static bool take_key(struct json_scan *s, struct json_span *ret)
{
	return take_string(s, ret) && take(s, ':');
}

static bool of_word(char c)
{
	return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
	       c == '+' || c == '-' || c == '.';
}

static bool take_word(struct json_scan *s)
{
	const char *begin = s->at;

	while (s->at < s->end && of_word(*s->at))
		s->at++;
	return s->at > begin;
}

static bool in_object(const struct json_scan *s)
{
	unsigned i = s->depth - 1;

	return s->objects[i / 64] >> i % 64 & 1;
}

/* At a bracket.  1: a value stands behind it; 0: there is none, and it is closed again. */
static int take_bracket(struct json_scan *s, size_t *elements)
{
	bool object = *s->at++ == '{';
	unsigned i = s->depth;
	struct json_span key;

	if (take(s, object ? '}' : ']'))
		return 0;
	if (s->depth == JSON_SCAN_DEPTH)
		return STRAND_EFULL;
	*elements += s->depth++ == 0;
	s->objects[i / 64] = (s->objects[i / 64] & ~(UINT64_C(1) << i % 64)) | (uint64_t)object << i % 64;
	return !object || take_key(s, &key) ? 1 : STRAND_EPROTO;
}

/* Where a value stands.  1: it has begun, and another stands in it; 0: it has ended. */
static int begin_value(struct json_scan *s, size_t *elements)
{
	struct json_span string;

	pass_blanks(s);
	if (s->at == s->end)
		return STRAND_EPROTO;
	if (*s->at == '{' || *s->at == '[')
		return take_bracket(s, elements);
	return (*s->at == '"' ? take_string(s, &string) : take_word(s)) ? 0 : STRAND_EPROTO;
}

/* A value has ended.  1: another follows; 0: with it all those around it have. */
static int end_value(struct json_scan *s, size_t *elements)
{
	struct json_span key;

	for (; s->depth; s->depth--) {
		bool object = in_object(s);

		if (take(s, ',')) {
			*elements += s->depth == 1;
			return !object || take_key(s, &key) ? 1 : STRAND_EPROTO;
		}
		if (!take(s, object ? '}' : ']'))
			return STRAND_EPROTO;
	}
	return 0;
}

static int take_value(struct json_scan *s, struct json_member *m)
{
	int ret;

	pass_blanks(s);
	m->value.at = s->at;
	m->elements = 0;
	do {
		ret = begin_value(s, &m->elements);
		if (!ret)
			ret = end_value(s, &m->elements);
	} while (ret > 0);
	m->value.len = (size_t)(s->at - m->value.at);
	return ret;
}

static bool at_end(struct json_scan *s)
{
	pass_blanks(s);
	return s->at == s->end;
}

int json_scan_next(struct json_scan *s, struct json_member *ret)
{
	struct json_member m = { 0 };
	int r;

	if (!s->inside && !take(s, '{'))
		return STRAND_EPROTO;
	if (take(s, '}'))
		return at_end(s) ? 0 : STRAND_EPROTO;
	if (s->inside && !take(s, ','))
		return STRAND_EPROTO;
	s->inside = true;
	if (!take_key(s, &m.key))
		return STRAND_EPROTO;
	r = take_value(s, &m);
	if (r)
		return r;
	*ret = m;
	return 1;
}

/* A word of JSON's own, or what begins like a number. */
static bool is_literal(const struct json_span *word)
{
	static const char *const literals[] = { "true", "false", "null" };

	for (size_t i = 0; i < sizeof(literals) / sizeof(literals[0]); i++) {
		if (word->len == strlen(literals[i]) && !memcmp(word->at, literals[i], word->len))
			return true;
	}
	return word->len && ((*word->at >= '0' && *word->at <= '9') ||
			     (*word->at == '-' && word->len > 1 && word->at[1] >= '0' && word->at[1] <= '9'));
}

bool json_scan_value(char *text, size_t len, struct json_span *ret)
{
	struct json_scan s;
	struct json_member m;

	json_scan_init(&s, text, len);
	if (take_value(&s, &m) || !at_end(&s))
		return false;
	*ret = m.value;
	return *m.value.at == '"' || *m.value.at == '[' || *m.value.at == '{' || is_literal(&m.value);
}

bool json_scan_other(char *text, size_t len)
{
	struct json_span value;

	return json_scan_value(text, len, &value) && *value.at != '{';
}
