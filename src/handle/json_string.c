#include "handle/json_string.h"

#include <limits.h>
#include <stdlib.h>
#include <string.h>

#include <json.h>

struct json_span json_string_inside(struct json_span value)
{
	if (!value.at || value.len < 2 || *value.at != '"')
		return (struct json_span){ 0 };
	return (struct json_span){ value.at + 1, value.len - 2 };
}

/* What the string means; NULL, and *ret_code says why.  To be put back. */
static struct json_object *read_string(struct json_span inside, int *ret_code)
{
	struct json_tokener *tok;
	struct json_object *o = NULL;

	*ret_code = STRAND_EPROTO;
	if (inside.len > INT_MAX - 2)
		return NULL;
	tok = json_tokener_new_ex(2);
	if (!tok) {
		*ret_code = STRAND_ENOMEM;
		return NULL;
	}
	json_tokener_set_flags(tok, JSON_TOKENER_STRICT);
	/* With its quotes. */
	o = json_tokener_parse_ex(tok, inside.at - 1, (int)inside.len + 2);
	if (json_tokener_get_error(tok) != json_tokener_success || !json_object_is_type(o, json_type_string)) {
		json_object_put(o);
		o = NULL;
	}
	json_tokener_free(tok);
	return o;
}

int json_string_decode(struct json_span *inside)
{
	struct json_object *o;
	size_t len;
	int ret;

	if (!memchr(inside->at, '\\', inside->len))
		return 0;
	o = read_string(*inside, &ret);
	if (!o)
		return ret;
	len = (size_t)json_object_get_string_len(o);
	ret = len <= inside->len ? 0 : STRAND_EPROTO;
	if (!ret) {
		memcpy(inside->at, json_object_get_string(o), len);
		/* Half a letter must not be left behind it. */
		memset(inside->at + len, ' ', inside->len - len);
		inside->len = len;
	}
	json_object_put(o);
	return ret;
}

int json_string_copy(struct json_span inside, char **ret_text)
{
	/* With its quotes, which a decoder wants to see. */
	char *copy = malloc(inside.len + 2);
	struct json_span own;
	int ret;

	if (!copy)
		return STRAND_ENOMEM;
	memcpy(copy, inside.at - 1, inside.len + 2);
	own = (struct json_span){ copy + 1, inside.len };
	ret = json_string_decode(&own);
	if (ret) {
		free(copy);
		return ret;
	}
	memmove(copy, own.at, own.len);
	copy[own.len] = '\0';
	*ret_text = copy;
	return 0;
}

bool json_string_is(struct json_span inside, const char *text, size_t len)
{
	struct json_object *o;
	bool same;
	int code;

	if (!memchr(inside.at, '\\', inside.len))
		return inside.len == len && !memcmp(inside.at, text, len);
	o = read_string(inside, &code);
	same = o && (size_t)json_object_get_string_len(o) == len && !memcmp(json_object_get_string(o), text, len);
	json_object_put(o);
	return same;
}

void json_string_add(struct buf *out, const char *text, size_t len)
{
	size_t from = 0;

	buf_add(out, "\"", 1);
	for (size_t i = 0; i < len; i++) {
		unsigned char c = (unsigned char)text[i];

		if (c >= 0x20 && c != '"' && c != '\\')
			continue;
		buf_add(out, text + from, i - from);
		from = i + 1;
		if (c < 0x20)
			buf_addf(out, "\\u%04x", c);
		else
			buf_add(out, (const char[]){ '\\', (char)c }, 2);
	}
	buf_add(out, text + from, len - from);
	buf_add(out, "\"", 1);
}

void json_line_add(struct buf *out, const char *json, size_t len)
{
	const char *newline;

	while ((newline = memchr(json, '\n', len))) {
		size_t before = (size_t)(newline - json);

		buf_add(out, json, before);
		buf_add(out, " ", 1);
		json += before + 1;
		len -= before + 1;
	}
	buf_add(out, json, len);
}
