#include "handle/json_check.h"

#include <string.h>

#include "base/utf8.h"

#define WORD_SHOWN 40

struct check {
	const char *text, *at, *end;
	unsigned depth;
	struct err *e;
};

static int value(struct check *c);

static int fault(const struct check *c, const char *at, const char *what)
{
	size_t line = 1;
	const char *begin = c->text;

	for (const char *p = c->text; p < at; p++) {
		if (*p != '\n')
			continue;
		line++;
		begin = p + 1;
	}
	return err_set(c->e, STRAND_EINVAL, "line %zu, column %zu: %s", line, (size_t)(at - begin) + 1, what);
}

static void blanks(struct check *c)
{
	while (c->at < c->end && strchr(" \t\r\n", *c->at) && *c->at)
		c->at++;
}

static bool take(struct check *c, char byte)
{
	blanks(c);
	if (c->at == c->end || *c->at != byte)
		return false;
	c->at++;
	return true;
}

static size_t digits(const char *p, const char *end)
{
	size_t n = 0;

	while (p + n < end && p[n] >= '0' && p[n] <= '9')
		n++;
	return n;
}

static bool is_number(const char *p, const char *end)
{
	size_t n;

	p += p < end && *p == '-';
	n = digits(p, end);
	if (!n || (n > 1 && *p == '0'))
		return false;
	p += n;
	if (p < end && *p == '.') {
		n = digits(++p, end);
		if (!n)
			return false;
		p += n;
	}
	if (p < end && (*p == 'e' || *p == 'E')) {
		p++;
		p += p < end && (*p == '+' || *p == '-');
		n = digits(p, end);
		if (!n)
			return false;
		p += n;
	}
	return p == end;
}

static bool same(const char *p, size_t len, const char *word)
{
	return len == strlen(word) && !memcmp(p, word, len);
}

static int word(struct check *c)
{
	const char *begin = c->at;
	char what[WORD_SHOWN + 80];
	size_t len;

	while (c->at < c->end && !strchr(" \t\r\n,:]}[{\"", *c->at))
		c->at++;
	len = (size_t)(c->at - begin);
	if (same(begin, len, "true") || same(begin, len, "false") || same(begin, len, "null") || is_number(begin, c->at))
		return 0;
	if (!len)
		return fault(c, begin, c->at == c->end ? "the text ends where a value is due" : "a value is due here");
	err_set(c->e, STRAND_EINVAL, "\"%.*s\" is no JSON value: write a number, true, false, null or a string in \" \"",
		(int)(len < WORD_SHOWN ? len : WORD_SHOWN), begin);
	memcpy(what, c->e->text, sizeof(what) - 1);
	what[sizeof(what) - 1] = '\0';
	return fault(c, begin, what);
}

/* At "\\uXXXX"; -1: it is not that. */
static long code_unit(const char *at, const char *end)
{
	long code = 0;

	if (end - at < 6 || at[0] != '\\' || at[1] != 'u')
		return -1;
	for (int i = 2; i < 6; i++) {
		const char *hex = "0123456789abcdef0123456789ABCDEF", *digit = at[i] ? strchr(hex, at[i]) : NULL;

		if (!digit)
			return -1;
		code = code * 16 + (digit - hex) % 16;
	}
	return code;
}

static int unicode(struct check *c)
{
	long code = code_unit(c->at, c->end), next;
	const char *begin = c->at;

	if (code < 0)
		return fault(c, begin, "\\u wants four hexadecimal digits");
	if (code == 0)
		return fault(c, begin, "PostgreSQL's text cannot hold \\u0000");
	c->at += 6;
	if (code < 0xd800 || code > 0xdfff)
		return 0;
	next = code_unit(c->at, c->end);
	if (code > 0xdbff || next < 0xdc00 || next > 0xdfff)
		return fault(c, begin, "half of a surrogate pair");
	c->at += 6;
	return 0;
}

static int escape(struct check *c)
{
	const char *what = c->at + 1;

	if (what == c->end || !*what || !strchr("\"\\/bfnrtu", *what))
		return fault(c, c->at, "JSON has no such escape in a string");
	if (*what == 'u')
		return unicode(c);
	c->at += 2;
	return 0;
}

static int string(struct check *c)
{
	const char *begin = c->at++;

	while (c->at < c->end && *c->at != '"') {
		int ret = 0;

		if ((unsigned char)*c->at < 0x20)
			return fault(c, c->at, "a control character in a string: write it as \\n, \\t or \\u00..");
		if (*c->at == '\\')
			ret = escape(c);
		else
			c->at++;
		if (ret)
			return ret;
	}
	if (c->at == c->end)
		return fault(c, begin, "this string has no end");
	c->at++;
	return 0;
}

static int member(struct check *c)
{
	int ret;

	blanks(c);
	if (c->at == c->end || *c->at != '"')
		return fault(c, c->at, "a key in \" \" is due here");
	ret = string(c);
	if (!ret && !take(c, ':'))
		return fault(c, c->at, "a colon is due here");
	return ret ? ret : value(c);
}

/* At a bracket. */
static int inside(struct check *c)
{
	char close = *c->at == '{' ? '}' : ']';

	if (c->depth == JSON_CHECK_DEPTH)
		return fault(c, c->at, "it is nested too deep");
	c->depth++;
	c->at++;
	if (!take(c, close)) {
		do {
			int ret = close == '}' ? member(c) : value(c);
			if (ret)
				return ret;
		} while (take(c, ','));
		if (!take(c, close))
			return fault(c, c->at, close == '}' ? "a comma or } is due here" : "a comma or ] is due here");
	}
	c->depth--;
	return 0;
}

static int value(struct check *c)
{
	blanks(c);
	if (c->at < c->end && (*c->at == '{' || *c->at == '['))
		return inside(c);
	return c->at < c->end && *c->at == '"' ? string(c) : word(c);
}

/* The first byte that belongs to no letter. */
static const char *first_bad(const char *text, size_t len)
{
	size_t good = 0;

	while (good < len) {
		size_t n = 1;

		while (n <= 4 && n <= len - good && !utf8_valid(text + good, n))
			n++;
		if (n > 4 || n > len - good)
			break;
		good += n;
	}
	return text + good;
}

int json_check(const char *text, size_t len, struct err *e)
{
	struct err own;
	struct check c = { .text = text, .at = text, .end = text + len, .e = e ? e : &own };
	int ret;

	if (!utf8_valid(text, len))
		return fault(&c, first_bad(text, len), "this is not UTF-8: convert the text, with iconv(1) say");
	ret = value(&c);
	blanks(&c);
	if (!ret && c.at < c.end)
		return fault(&c, c.at, "there is more behind the value");
	return ret;
}

bool json_element(const char **at, const char *end, const char **ret_text, size_t *ret_len)
{
	struct err ignored;
	struct check c = { .text = *at, .at = *at + 1, .end = end, .e = &ignored };

	/* *at is the bracket, or the comma before the element. */
	blanks(&c);
	if (**at == ']' || c.at >= end || *c.at == ']')
		return false;
	*ret_text = c.at;
	if (value(&c))
		return false;
	*ret_len = (size_t)(c.at - *ret_text);
	blanks(&c);
	*at = c.at;
	return true;
}
