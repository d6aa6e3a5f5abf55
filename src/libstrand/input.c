#include "libstrand/input.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include "libstrand/text.h"

/* "AD_" and 48 random bits, as strandd.new_id makes them. */
static int new_id(struct input *in, const char *prefix, struct err *e)
{
	unsigned char r[6];

	if (getrandom(r, sizeof(r), 0) != sizeof(r))
		return err_set(e, STRAND_ESYS, "no random numbers for an id");
	if (asprintf(&in->id, "%s_%02x%02x%02x%02x%02x%02x", prefix, r[0], r[1], r[2], r[3], r[4], r[5]) < 0) {
		in->id = NULL;
		return err_set(e, STRAND_ENOMEM, "out of memory");
	}
	return 0;
}

static int copy_string(struct json_span inside, char **ret_text, struct err *e)
{
	int ret = json_string_copy(inside, ret_text);

	if (ret == STRAND_ENOMEM)
		return err_set(e, ret, "out of memory");
	return ret ? err_set(e, STRAND_EINVAL, "not a JSON string: \"%.*s\"", (int)(inside.len < 100 ? inside.len : 100),
			     inside.at) : 0;
}

static int take_id(struct input *in, struct json_span value, struct err *e)
{
	struct json_span inside = json_string_inside(value);

	if (text_is_null(value))
		return 0;
	if (!inside.at || !inside.len)
		return err_set(e, STRAND_EINVAL, "\"id\" is %s", inside.at ? "empty" : "not a string");
	free(in->id);
	in->id = NULL;
	return copy_string(inside, &in->id, e);
}

/* A column's name as SQL takes it. */
static int add_column(struct buf *columns, struct json_span key, struct err *e)
{
	char *name;
	int ret = copy_string(key, &name, e);

	if (ret)
		return ret;
	buf_adds(columns, ", \"");
	for (const char *p = name; *p; p++) {
		if (*p == '"')
			buf_adds(columns, "\"");
		buf_add(columns, p, 1);
	}
	buf_adds(columns, "\"");
	free(name);
	return 0;
}

/* Among those that were taken, whose array is still open. */
static bool holds(const struct buf *tags, const char *tag)
{
	const char *at = tags->data;
	struct json_span element;

	if (!tags->len)
		return false;
	while (text_element(&at, tags->data + tags->len, &element))
		if (json_string_is(json_string_inside(element), tag, strlen(tag)))
			return true;
	return false;
}

static int add_tag(struct buf *tags, const char *tag, struct err *e)
{
	if (!*tag || holds(tags, tag))
		return 0;
	buf_adds(tags, tags->len ? ", " : "[");
	return text_add_string(tags, tag) ? 0 : err_set(e, STRAND_EINVAL, "the tag \"%s\" is not UTF-8", tag);
}

/* Its own first, none twice.  An element that is no string is a mistake. */
static int take_tags(struct buf *tags, struct json_span value, struct err *e)
{
	const char *at = value.at;
	struct json_span element;
	int ret = 0;

	if (text_is_null(value))
		return 0;
	if (*value.at != '[')
		return err_set(e, STRAND_EINVAL, "\"tags\" is not an array");
	while (!ret && text_element(&at, value.at + value.len, &element)) {
		struct json_span inside = json_string_inside(element);
		char *tag;

		if (!inside.at)
			return err_set(e, STRAND_EINVAL, "an element of \"tags\" is not a string");
		ret = copy_string(inside, &tag, e);
		if (ret)
			return ret;
		ret = add_tag(tags, tag, e);
		free(tag);
	}
	return ret;
}

struct parts {
	struct buf columns, tags;
	bool tags_given;
};

static bool is_named(struct json_span key, const char *name)
{
	return json_string_is(key, name, strlen(name));
}

static int take_member(struct input *in, struct parts *p, const struct json_member *m, struct err *e)
{
	if (is_named(m->key, "id"))
		return take_id(in, m->value, e);
	if (is_named(m->key, "tags")) {
		p->tags_given = !text_is_null(m->value);
		return take_tags(&p->tags, m->value, e);
	}
	if (is_named(m->key, "xact_id") || is_named(m->key, "tagged_at"))
		return err_set(e, STRAND_EINVAL, "column \"%.*s\" is filled by PostgreSQL: leave it out", (int)m->key.len,
			       m->key.at);
	if (is_named(m->key, "module"))
		in->fill_module = false;
	else if (is_named(m->key, "created_at"))
		in->fill_created_at = false;
	return add_column(&p->columns, m->key, e);
}

static int take_members(struct input *in, struct parts *p, const struct input_context *x, struct err *e)
{
	struct json_scan scan;
	struct json_member member;
	struct err why;
	size_t len = strlen(in->text);
	int ret = text_check_object(in->text, len, &why);

	if (ret)
		return err_set(e, ret, "not a JSON object: %s", why.text);
	json_scan_init(&scan, (char *)in->text, len);
	while (!ret && json_scan_next(&scan, &member) > 0)
		ret = take_member(in, p, &member, e);
	for (size_t i = 0; !ret && i < x->n_tags; i++)
		ret = x->tags[i] ? add_tag(&p->tags, x->tags[i], e) : err_set(e, STRAND_EINVAL, "a tag is NULL");
	if (!ret && !in->id)
		ret = new_id(in, x->table->prefix, e);
	return ret;
}

int input_read(struct input *ret_input, const char *text, const struct input_context *x, struct err *e)
{
	struct input in = { .text = text };
	struct parts p = { 0 };
	int ret;

	/* What strand_row_json answers after a fault. */
	if (!text)
		return err_set(e, STRAND_EINVAL, "no strand is given: NULL");
	in.fill_module = x->own && x->table->has_module;
	in.fill_created_at = !x->table->fills_created_at;
	buf_init(&p.columns);
	buf_init(&p.tags);
	ret = take_members(&in, &p, x, e);
	if (p.tags.len || p.tags_given)
		buf_adds(&p.tags, p.tags.len ? "]" : "[]");
	if (!ret && (p.columns.failed || p.tags.failed))
		ret = err_set(e, STRAND_ENOMEM, "out of memory");
	if (!ret) {
		in.tags = p.tags.len ? buf_steal(&p.tags) : NULL;
		in.columns = buf_steal(&p.columns);
		*ret_input = in;
	} else {
		input_release(&in);
	}
	buf_release(&p.columns);
	buf_release(&p.tags);
	return ret;
}

void input_release(struct input *in)
{
	free(in->id);
	free(in->tags);
	free(in->columns);
	*in = (struct input){ 0 };
}

bool input_same_shape(const struct input *a, const struct input *b)
{
	return !strcmp(a->columns, b->columns) && !a->tags == !b->tags && a->fill_module == b->fill_module &&
	       a->fill_created_at == b->fill_created_at;
}
