#include "strandctl/table.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "strandctl/ctl.h"

struct table {
	struct libscols_table *scols;
	const struct column *columns;
	size_t n_columns;
	bool json;
	int place[];	/* of each of our columns in scols, -1: not shown */
};

static void *need(void *p)
{
	if (!p) {
		ctl_warn("out of memory");
		exit(EXIT_FAULT);
	}
	return p;
}

static void need_ok(int ret)
{
	need(ret ? NULL : &ret);
}

static int flags_of(enum column_kind kind)
{
	switch (kind) {
	case COLUMN_NUMBER:
		return SCOLS_FL_RIGHT;
	case COLUMN_TREE:
		return SCOLS_FL_TREE;
	case COLUMN_WRAP:
		return SCOLS_FL_WRAP;
	default:
		return 0;
	}
}

static int json_type_of(enum column_kind kind)
{
	switch (kind) {
	case COLUMN_NUMBER:
	case COLUMN_BOOLEAN:
	case COLUMN_JSON:
		/* smartcols prints a number's text as it is. */
		return SCOLS_JSON_NUMBER;
	default:
		return SCOLS_JSON_STRING;
	}
}

/* "TAGGED AT" to "tagged_at". */
static void key_of(const char *title, char *out, size_t size)
{
	size_t i;

	for (i = 0; title[i] && i + 1 < size; i++)
		out[i] = (char)(title[i] == ' ' ? '_' : tolower((unsigned char)title[i]));
	out[i] = '\0';
}

static void add_column(struct table *t, const struct column *column)
{
	struct libscols_column *c;
	char key[64];

	key_of(column->title, key, sizeof(key));
	c = need(scols_table_new_column(t->scols, t->json ? key : column->title, 0,
					flags_of(column->kind)));
	scols_column_set_json_type(c, json_type_of(column->kind));
	if (column->kind == COLUMN_WRAP) {
		scols_column_set_wrapfunc(c, scols_wrapnl_chunksize, scols_wrapnl_nextchunk, NULL);
		scols_column_set_safechars(c, "\n");
	}
}

struct table *table_new(const char *name, bool json, const struct column *columns, size_t n_columns)
{
	struct table *t = need(calloc(1, sizeof(*t) + n_columns * sizeof(t->place[0])));
	int shown = 0;

	t->scols = need(scols_new_table());
	t->columns = columns;
	t->n_columns = n_columns;
	t->json = json;
	scols_table_set_name(t->scols, name);
	scols_table_enable_json(t->scols, json);
	/* JSON is UTF-8 whatever the locale; without a terminal nothing is cut. */
	scols_table_enable_noencoding(t->scols, json);
	for (size_t i = 0; i < n_columns; i++) {
		t->place[i] = -1;
		if (columns[i].whom == (json ? FOR_PEOPLE : FOR_PROGRAMS))
			continue;
		add_column(t, &columns[i]);
		t->place[i] = shown++;
	}
	return t;
}

void table_free(struct table *t)
{
	if (!t)
		return;
	scols_unref_table(t->scols);
	free(t);
}

struct libscols_line *table_row(struct table *t, struct libscols_line *parent)
{
	return need(scols_table_new_line(t->scols, parent));
}

void table_set(struct table *t, struct libscols_line *row, size_t column, const char *data)
{
	if (t->place[column] < 0)
		return;
	if (t->json && data && t->columns[column].kind == COLUMN_BOOLEAN)
		data = *data == 't' ? "true" : "false";
	else if (data && t->columns[column].kind == COLUMN_BOOLEAN)
		data = *data == 't' ? "yes" : "no";
	need_ok(scols_line_set_data(row, (size_t)t->place[column], data));
}

void table_print(struct table *t)
{
	if (!t->json && scols_table_is_empty(t->scols))
		return;
	need_ok(scols_print_table(t->scols));
	if (t->json)
		fputc('\n', stdout);
}

char *table_rows_json(struct table *t)
{
	char *text = NULL, *from, *to;

	need_ok(scols_print_table_to_string(t->scols, &text));
	/* {"name": [...]} without the object around it. */
	from = need(text ? strchr(text, '[') : NULL);
	to = need(strrchr(from, ']'));
	to[1] = '\0';
	from = need(strdup(from));
	free(text);
	return from;
}
