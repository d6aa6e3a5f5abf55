#include "fuzz.h"

#include <stdbool.h>
#include <string.h>

#include "strandctl/row.h"
#include "strandctl/tags.h"

static const char *tag_at(const struct json_object *tags, size_t i)
{
	return json_object_get_string(json_object_array_get_idx(tags, i));
}

/* No tag is empty, and none stands there twice. */
static void check_tags(const struct json_object *tags)
{
	for (size_t i = 0; i < json_object_array_length(tags); i++) {
		PROMISE(*tag_at(tags, i));
		for (size_t k = 0; k < i; k++)
			PROMISE(strcmp(tag_at(tags, i), tag_at(tags, k)));
	}
}

/* A list's tags have neither commas nor blanks around them, and written as a list
 * again they are the same. */
static void check_list(const char *list)
{
	struct json_object *tags = json_object_new_array(), *again = json_object_new_array();
	char *written = calloc(1, 2 * strlen(list) + 2), *end = written;

	PROMISE(tags && again && written);
	tags_add_list(tags, list);
	check_tags(tags);
	for (size_t i = 0; i < json_object_array_length(tags); i++) {
		PROMISE(!strchr(tag_at(tags, i), ','));
		end = stpcpy(stpcpy(end, i ? ", " : ""), tag_at(tags, i));
		PROMISE(tags_hold(tags, tag_at(tags, i)));
	}
	tags_add_list(again, written);
	PROMISE(json_object_equal(tags, again));
	json_object_put(tags);
	json_object_put(again);
	free(written);
}

static void check_route(const char *tag)
{
	const char *colon = strchr(tag, ':');

	if (!tag_is_route(tag))
		return;
	PROMISE(colon && colon > tag && colon[1] && !strchr(colon + 1, ':'));
	PROMISE(!strpbrk(tag, " \t\n\r\f\v"));
	PROMISE(strncmp(tag, "priority:", 9) && strncmp(tag, "timeout:", 8) && strncmp(tag, "error:", 6) &&
		strncmp(tag, "original_strand:", 16));
}

/* A table with these columns, as the catalog would tell. */
static struct target *target(void)
{
	static char attribute_name[] = "c";
	static const char *const names[] = { "id", "tags", "symbol", "dm_decision" };
	static PGresAttDesc attributes[3];
	static struct target t;

	if (t.columns)
		return &t;
	for (int i = 0; i < 3; i++)
		attributes[i] = (PGresAttDesc){ .name = attribute_name, .typlen = -1 };
	t = (struct target){ .relation = { .name = "ad_strands" }, .prefix = strdup("AD"),
			     .columns = PQmakeEmptyPGresult(NULL, PGRES_TUPLES_OK) };
	PROMISE(t.prefix && t.columns && PQsetResultAttrs(t.columns, 3, attributes));
	for (int row = 0; row < 4; row++) {
		for (int column = 0; column < 3; column++) {
			const char *text = column < 2 ? names[row] : row % 2 ? "t" : "f";
			char *copy = strdup(text);

			PROMISE(copy && PQsetvalue(t.columns, row, column, copy, (int)strlen(text)));
			free(copy);
		}
	}
	return &t;
}

/* Each tag of the row's own is among those that will be written, to the last byte. */
static void check_kept(const char *text, size_t len, const struct json_object *tags)
{
	struct err e;
	struct json_object *object = json_read(text, len, "", &e), *own = NULL;

	PROMISE(object);
	json_object_object_get_ex(object, "tags", &own);
	for (size_t i = 0; own && i < json_object_array_length(own); i++) {
		struct json_object *tag = json_object_array_get_idx(own, i);
		bool kept = json_object_get_string_len(tag) == 0;

		for (size_t k = 0; k < json_object_array_length(tags); k++)
			kept |= json_object_equal(tag, json_object_array_get_idx(tags, k));
		PROMISE(kept);
	}
	json_object_put(object);
}

static void check_row(const char *text, size_t len)
{
	struct json_object *more = json_object_new_array(), *tags;
	struct row row;
	struct err e = { 0 };

	tags_add(more, "dm:x");
	if (row_parse(&row, target(), text, len, 7, more, &e)) {
		PROMISE(e.code == STRAND_EINVAL && !strncmp(e.text, "line 7: ", 8));
	} else {
		PROMISE(row.id && *row.id && row.tags && row.columns);
		tags = json_read(row.tags, strlen(row.tags), "", &e);
		PROMISE(tags && json_object_is_type(tags, json_type_array) && tags_hold(tags, "dm:x"));
		check_tags(tags);
		check_kept(text, len, tags);
		json_object_put(tags);
		row_release(&row);
	}
	json_object_put(more);
}

int fuzz_tags(const uint8_t *data, size_t size)
{
	char *text = malloc(size + 1);

	PROMISE(text);
	memcpy(text, data, size);
	text[size] = '\0';
	check_list(text);
	check_route(text);
	if (strlen(text) == size)
		check_row(text, size);
	free(text);
	return 0;
}
