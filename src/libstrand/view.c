#include "libstrand/view.h"

#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "libstrand/text.h"

void view_forget(struct strand *s)
{
	free(s->id_text);
	s->id_text = NULL;
	for (size_t i = 0; i < s->n; i++) {
		free(s->columns[i].text);
		free(s->columns[i].json);
	}
	s->n = 0;
}

void view_release(struct strand *s)
{
	view_forget(s);
	free(s->columns);
	*s = (struct strand){ 0 };
}

static struct view_column *new_column(struct strand *s)
{
	size_t size = s->size ? s->size * 2 : 32;
	struct view_column *columns;

	if (s->n == s->size) {
		columns = realloc(s->columns, size * sizeof(*columns));
		if (!columns)
			return NULL;
		s->columns = columns;
		s->size = size;
	}
	s->columns[s->n] = (struct view_column){ 0 };
	return &s->columns[s->n++];
}

/* Whose name is which is found out when somebody asks. */
static int take_columns(struct strand *s, const char *json, size_t len)
{
	struct json_scan scan;
	struct json_member member;
	int ret;

	json_scan_init(&scan, (char *)json, len);
	while ((ret = json_scan_next(&scan, &member)) > 0) {
		struct view_column *column = new_column(s);

		if (!column)
			return STRAND_ENOMEM;
		column->name = member.key;
		column->value = member.value;
		if (json_string_is(member.key, "id", 2))
			s->id = member.value;
	}
	return ret ? STRAND_EPROTO : 0;
}

int view_row(struct strand *s, const char *json, size_t len)
{
	struct json_span inside;
	int ret;

	view_forget(s);
	s->id = (struct json_span){ 0 };
	s->json = json;
	ret = take_columns(s, json, len);
	inside = json_string_inside(s->id);
	if (ret || !inside.at)
		return ret ? ret : STRAND_EPROTO;
	return json_string_copy(inside, &s->id_text);
}

const char *strand_id(const struct strand *s)
{
	return s->id_text;
}

const char *strand_tag(const struct strand *s)
{
	return s->tag;
}

const char *strand_source(const struct strand *s)
{
	return s->source;
}

int strand_attempt(const struct strand *s)
{
	return s->attempt;
}

int64_t strand_deadline_ms(const struct strand *s)
{
	return s->deadline == INT64_MAX ? -1 : clock_left_ms(s->deadline);
}

const char *strand_json(const struct strand *s)
{
	return s->json;
}

static struct view_column *find(const struct strand *s, const char *column)
{
	size_t len = strlen(column);

	for (size_t i = 0; i < s->n; i++)
		if (json_string_is(s->columns[i].name, column, len))
			return &s->columns[i];
	return NULL;
}

const char *strand_column(const struct strand *s, const char *column)
{
	struct view_column *found = find(s, column);
	struct json_span inside;

	if (!found || text_is_null(found->value))
		return NULL;
	inside = json_string_inside(found->value);
	if (!inside.at)
		return strand_column_json(s, column);
	if (!found->text && json_string_copy(inside, &found->text))
		return NULL;
	return found->text;
}

const char *strand_column_json(const struct strand *s, const char *column)
{
	struct view_column *found = find(s, column);

	if (!found)
		return NULL;
	if (!found->json)
		found->json = strndup(found->value.at, found->value.len);
	return found->json;
}

int strand_has_tag(const struct strand *s, const char *tag)
{
	struct view_column *tags = find(s, "tags");
	struct json_span element, inside;
	const char *at, *end;

	if (!tags || *tags->value.at != '[')
		return 0;
	at = tags->value.at;
	end = at + tags->value.len;
	while (text_element(&at, end, &element)) {
		inside = json_string_inside(element);
		if (inside.at && json_string_is(inside, tag, strlen(tag)))
			return 1;
	}
	return 0;
}
