#include "fuzz.h"

#include <stdbool.h>
#include <string.h>

#include <json.h>

#include "base/utf8.h"
#include "handle/protocol.h"

static char *copy(const void *data, size_t len)
{
	char *text = malloc(len ? len : 1);

	PROMISE(text);
	if (len)
		memcpy(text, data, len);
	return text;
}

static struct json_object *read_json(const char *text, size_t len)
{
	struct json_tokener *tok = json_tokener_new_ex(JSON_TOKENER_DEFAULT_DEPTH);
	struct json_object *o;

	PROMISE(tok);
	json_tokener_set_flags(tok, JSON_TOKENER_STRICT);
	o = json_tokener_parse_ex(tok, text, (int)len);
	json_tokener_free(tok);
	return o;
}

/* What is told of it is one clean line. */
static void check_reason(const struct err *e)
{
	PROMISE(e->text[0]);
	PROMISE(utf8_valid(e->text, strlen(e->text)));
	for (const char *p = e->text; *p; p++)
		PROMISE((unsigned char)*p >= 0x20 && *p != 0x7f);
}

static void check_answer(const struct answer *a, const char *line, size_t len)
{
	struct json_object *replies;

	PROMISE(a->id_len > 0 && utf8_valid(a->id, a->id_len));
	PROMISE(a->id >= line && a->id + a->id_len <= line + len);
	PROMISE(a->text >= line && a->text + a->text_len <= line + len);
	PROMISE(utf8_valid(a->text, a->text_len));
	if (a->kind == ANSWER_ERROR)
		return;
	PROMISE(!a->final && a->text_len >= 2 && a->text[0] == '[' && a->text[a->text_len - 1] == ']');
	replies = read_json(a->text, a->text_len);
	if (json_object_is_type(replies, json_type_array))
		PROMISE(json_object_array_length(replies) == a->n_replies);
	json_object_put(replies);
}

/* What json-c makes of the line, written by json-c as an answer, is one. */
static void check_like_jsonc(const char *line, size_t len)
{
	struct json_object *o = read_json(line, len), *id = NULL, *replies = NULL;
	char *text = NULL;
	struct answer a;
	struct err e;

	if (json_object_is_type(o, json_type_object)) {
		json_object_object_get_ex(o, "id", &id);
		json_object_object_get_ex(o, "replies", &replies);
	}
	if (json_object_is_type(id, json_type_string) && json_object_is_type(replies, json_type_array) &&
	    json_object_get_string_len(id) &&
	    utf8_valid(json_object_get_string(id), (size_t)json_object_get_string_len(id))) {
		PROMISE(asprintf(&text, "{\"replies\":%s,\"error\":null,\"id\":%s}",
				 json_object_to_json_string_ext(replies, JSON_C_TO_STRING_PLAIN),
				 json_object_to_json_string_ext(id, JSON_C_TO_STRING_PLAIN)) > 0);
		if (utf8_valid(text, strlen(text))) {
			PROMISE(answer_parse(text, strlen(text), &a, &e) == 0);
			PROMISE(a.kind == ANSWER_REPLIES && a.n_replies == json_object_array_length(replies));
			PROMISE(a.id_len == (size_t)json_object_get_string_len(id));
			PROMISE(!memcmp(a.id, json_object_get_string(id), a.id_len));
		}
	}
	free(text);
	json_object_put(o);
}

static void check_quote(const char *line, size_t len)
{
	char first[QUOTE_BYTES];

	answer_quote(line, len, first);
	PROMISE(strlen(first) < QUOTE_BYTES && utf8_valid(first, strlen(first)));
}

int fuzz_answer(const uint8_t *data, size_t size)
{
	char *line = copy(data, size), *before = copy(data, size);
	struct answer a = { 0 };
	struct err e = { 0 };
	int ret;

	check_quote(line, size);
	ret = answer_parse(line, size, &a, &e);
	PROMISE(ret == 0 || ret == STRAND_EINVAL || ret == STRAND_EPROTO);
	if (ret)
		check_reason(&e);
	if (ret == STRAND_EINVAL)
		PROMISE(a.id_len > 0 && utf8_valid(a.id, a.id_len));
	if (!ret && a.kind != ANSWER_READY)
		check_answer(&a, line, size);
	check_like_jsonc(before, size);
	free(line);
	free(before);
	return 0;
}
