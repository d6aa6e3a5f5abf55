#include "strandctl/row.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "strandctl/tags.h"

/* PostgreSQL's own bound is its stack, far beyond. */
#define MAX_DEPTH 1000

void row_place(int64_t line, char *out, size_t size)
{
	if (line)
		snprintf(out, size, "line %lld: ", (long long)line);
	else
		snprintf(out, size, "%s", "");
}

void row_release(struct row *r)
{
	free(r->text);
	free(r->id);
	free(r->tags);
	free(r->columns);
}

static const char *reason(struct json_tokener *tok, size_t end, size_t len)
{
	enum json_tokener_error error = json_tokener_get_error(tok);

	if (error == json_tokener_continue || (error != json_tokener_success && end >= len))
		return "ends too early";
	return error == json_tokener_success ? "more after its end" : json_tokener_error_desc(error);
}

struct json_object *json_read(const char *text, size_t len, const char *what, struct err *e)
{
	struct json_tokener *tok = json_tokener_new_ex(MAX_DEPTH);
	struct json_object *value;
	size_t end;

	if (!tok) {
		err_set(e, STRAND_ENOMEM, "out of memory");
		return NULL;
	}
	json_tokener_set_flags(tok, JSON_TOKENER_STRICT | JSON_TOKENER_VALIDATE_UTF8);
	/* With the NUL: it ends a number that stands alone. */
	value = json_tokener_parse_ex(tok, text, (int)len + 1);
	end = json_tokener_get_parse_end(tok);
	if (json_tokener_get_error(tok) == json_tokener_success) {
		while (end < len && isspace((unsigned char)text[end]))
			end++;
	}
	if (json_tokener_get_error(tok) != json_tokener_success || end < len) {
		err_set(e, STRAND_EINVAL, "%snot JSON at column %zu: %s", what, end + 1,
			reason(tok, end, len));
		json_object_put(value);
		value = NULL;
	} else if (!value) {
		/* The value null. */
		err_set(e, STRAND_EINVAL, "%sJSON null", what);
	}
	json_tokener_free(tok);
	return value;
}

/* The keys of the outermost object, one by one, as its text has them. */
struct keys {
	const char *at;		/* in JSON that was read already */
	int depth;
	const char *key;	/* the last string, without its quotes */
	size_t len;
};

static bool next_key(struct keys *k)
{
	while (*k->at) {
		char c = *k->at++;

		if (c == '"') {
			for (k->key = k->at; *k->at && *k->at != '"'; k->at++)
				k->at += *k->at == '\\' && k->at[1];
			k->len = (size_t)(k->at - k->key);
			k->at += *k->at == '"';
		} else if (c == '{' || c == '[') {
			k->depth++;
		} else if (c == '}' || c == ']') {
			k->depth--;
		} else if (c == ':' && k->depth == 1) {
			return true;
		}
	}
	return false;
}

/* More keys than json-c kept mean that one stands there twice, and which of them
 * counts would be chance. */
static int refuse_doubled_keys(const char *text, int kept, struct err *e)
{
	struct keys all = { .at = text };
	int n = 0;

	while (next_key(&all))
		n++;
	if (n == kept)
		return 0;
	for (struct keys a = { .at = text }; next_key(&a);)
		for (struct keys b = a; next_key(&b);)
			if (a.len == b.len && !memcmp(a.key, b.key, a.len))
				return err_set(e, STRAND_EINVAL, "the key \"%.*s\" stands there twice",
					       (int)(a.len < 80 ? a.len : 80), a.key);
	return err_set(e, STRAND_EINVAL, "a key stands there twice, once with escapes");
}

static int take_id(struct row *r, const struct target *t, struct json_object *id, struct err *e)
{
	if (!id) {
		r->id = target_new_id(t);
		return r->id ? 0 : err_set(e, STRAND_ENOMEM, "no random id");
	}
	if (!json_object_is_type(id, json_type_string))
		return err_set(e, STRAND_EINVAL, "\"id\" is not a string");
	if (strlen(json_object_get_string(id)) != (size_t)json_object_get_string_len(id) ||
	    !json_object_get_string_len(id))
		return err_set(e, STRAND_EINVAL, "\"id\" is empty or holds a NUL");
	r->id = strdup(json_object_get_string(id));
	return r->id ? 0 : err_set(e, STRAND_ENOMEM, "out of memory");
}

static int take_tags(struct row *r, const struct target *t, struct json_object *own,
		     struct json_object *more, struct err *e)
{
	struct json_object *all = json_object_new_array();
	int ret = 0;

	for (size_t i = 0; own && !ret && i < json_object_array_length(own); i++) {
		struct json_object *tag = json_object_array_get_idx(own, i);

		if (!json_object_is_type(tag, json_type_string))
			ret = err_set(e, STRAND_EINVAL, "tag %zu in \"tags\" is not a string", i + 1);
		else if (strlen(json_object_get_string(tag)) != (size_t)json_object_get_string_len(tag))
			ret = err_set(e, STRAND_EINVAL, "tag %zu in \"tags\" holds a NUL", i + 1);
		else
			tags_add(all, json_object_get_string(tag));
	}
	for (size_t i = 0; i < json_object_array_length(more); i++)
		tags_add(all, json_object_get_string(json_object_array_get_idx(more, i)));
	for (size_t i = 0; !ret && i < json_object_array_length(all); i++)
		ret = target_check_tag(t, json_object_get_string(json_object_array_get_idx(all, i)), e);
	if (!ret && (own || json_object_array_length(all))) {
		r->tags = strdup(json_object_to_json_string_ext(all, TAGS_JSON_FLAGS));
		ret = r->tags ? 0 : err_set(e, STRAND_ENOMEM, "out of memory");
	}
	json_object_put(all);
	return ret;
}

static int take_columns(struct row *r, const struct target *t, struct json_object *object, struct err *e)
{
	struct buf columns = BUF_INIT;
	int ret = 0;

	buf_init(&columns);
	json_object_object_foreach(object, key, value) {
		(void)value;
		if (!strcmp(key, "id") || !strcmp(key, "tags"))
			continue;
		ret = target_check_column(t, key, e);
		if (ret)
			break;
		buf_addf(&columns, ", %s", PQgetvalue(t->columns, target_column(t, key), 1));
	}
	r->columns = buf_steal(&columns);
	if (!ret && !r->columns)
		ret = err_set(e, STRAND_ENOMEM, "out of memory");
	return ret;
}

static int fill(struct row *r, const struct target *t, struct json_object *object,
		struct json_object *more, struct err *e)
{
	struct json_object *tags = json_object_object_get(object, "tags");
	int ret;

	if (!json_object_is_type(object, json_type_object))
		return err_set(e, STRAND_EINVAL, "not a JSON object");
	ret = refuse_doubled_keys(r->text, json_object_object_length(object), e);
	if (ret)
		return ret;
	if (tags && !json_object_is_type(tags, json_type_array))
		return err_set(e, STRAND_EINVAL, "\"tags\" is not an array");
	ret = take_id(r, t, json_object_object_get(object, "id"), e);
	if (!ret)
		ret = take_tags(r, t, tags, more, e);
	return ret ? ret : take_columns(r, t, object, e);
}

int row_parse(struct row *ret_row, const struct target *t, const char *text, size_t len, int64_t line,
	      struct json_object *tags, struct err *e)
{
	struct row r = { .line = line, .text = strndup(text, len) };
	struct json_object *object;
	char place[32];
	int ret;

	if (!r.text)
		return err_set(e, STRAND_ENOMEM, "out of memory");
	row_place(line, place, sizeof(place));
	object = json_read(r.text, len, place, e);
	ret = object ? fill(&r, t, object, tags, e) : e->code;
	if (object && ret)
		err_set(e, ret, "%s%s", place, e->text);
	json_object_put(object);
	if (ret) {
		row_release(&r);
		return ret;
	}
	*ret_row = r;
	return 0;
}
