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
	struct {
		struct libscols_column *column;	/* NULL: not for this audience */
		size_t word;	/* bytes of the longest one in it */
	} shown[];
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
		return SCOLS_FL_TREE | SCOLS_FL_WRAP;
	case COLUMN_WRAP:
	case COLUMN_TIME:
		return SCOLS_FL_WRAP | SCOLS_FL_TRUNC;
	default:
		return SCOLS_FL_WRAP;
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

static bool wraps(const struct column *column)
{
	return column->kind == COLUMN_WRAP || column->kind == COLUMN_TIME;
}

/* Ends the chunk at its newline or, in a column that is too narrow for that, at
 * the last blank that fits. */
static char *next_chunk(const struct libscols_column *c, char *data, void *unused)
{
	size_t width = scols_column_get_width(c), n = strcspn(data, "\n");
	char *end = data + n, *blank = n > width ? memrchr(data, ' ', width + 1) : NULL;

	(void)unused;
	if (blank && blank > data)
		end = blank;
	if (!*end)
		return NULL;
	*end = '\0';
	return end + 1;
}

static struct libscols_column *add_column(struct table *t, const struct column *column)
{
	struct libscols_column *c;
	char key[64];

	key_of(column->title, key, sizeof(key));
	c = need(scols_table_new_column(t->scols, t->json ? key : column->title, 0,
					flags_of(column->kind)));
	scols_column_set_json_type(c, json_type_of(column->kind));
	if (wraps(column)) {
		scols_column_set_wrapfunc(c, scols_wrapnl_chunksize, next_chunk, NULL);
		scols_column_set_safechars(c, "\n");
	}
	return c;
}

struct table *table_new(const char *name, bool json, const struct column *columns, size_t n_columns)
{
	struct table *t = need(calloc(1, sizeof(*t) + n_columns * sizeof(t->shown[0])));

	t->scols = need(scols_new_table());
	t->columns = columns;
	t->n_columns = n_columns;
	t->json = json;
	scols_table_set_name(t->scols, name);
	scols_table_enable_json(t->scols, json);
	/* JSON is UTF-8 whatever the locale; without a terminal nothing is cut. */
	scols_table_enable_noencoding(t->scols, json);
	for (size_t i = 0; i < n_columns; i++)
		if (columns[i].whom != (json ? FOR_PEOPLE : FOR_PROGRAMS))
			t->shown[i].column = add_column(t, &columns[i]);
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

static size_t longest_word(const char *text)
{
	size_t longest = 0;

	while (*text) {
		size_t n = strcspn(text, " \n");

		longest = n > longest ? n : longest;
		text += n + strspn(text + n, " \n");
	}
	return longest;
}

/* A share of the terminal's width is what smartcols understands. */
static void keep_words_whole(struct table *t)
{
	double width = (double)scols_table_get_termwidth(t->scols);

	for (size_t i = 0; i < t->n_columns; i++) {
		double share = ((double)t->shown[i].word + 0.5) / width;

		if (t->shown[i].column && wraps(&t->columns[i]))
			scols_column_set_whint(t->shown[i].column, share < 1 ? share : 0);
	}
}

void table_set(struct table *t, struct libscols_line *row, size_t column, const char *data)
{
	struct libscols_column *c = t->shown[column].column;
	char second[32];

	if (!c)
		return;
	if (!t->json && data && t->columns[column].kind == COLUMN_TIME) {
		/* 2026-11-22 22:21:18.123456+00, as sessions have it. */
		snprintf(second, sizeof(second), "%.*s", (int)strcspn(data, ".+"), data);
		data = second;
	}
	if (data && wraps(&t->columns[column]) && longest_word(data) > t->shown[column].word)
		t->shown[column].word = longest_word(data);
	if (t->json && data && t->columns[column].kind == COLUMN_BOOLEAN)
		data = *data == 't' ? "true" : "false";
	else if (data && t->columns[column].kind == COLUMN_BOOLEAN)
		data = *data == 't' ? "yes" : "no";
	need_ok(scols_line_set_column_data(row, c, data));
}

void table_fill(struct table *t, const char *const *values)
{
	struct libscols_line *row = table_row(t, NULL);

	for (size_t i = 0; i < t->n_columns; i++)
		table_set(t, row, i, values[i]);
}

void table_print(struct table *t)
{
	if (!t->json && scols_table_is_empty(t->scols))
		return;
	keep_words_whole(t);
	need_ok(scols_print_table(t->scols));
	if (t->json)
		fputc('\n', stdout);
}

void table_print_one(const char *name, const struct column *columns, size_t n_columns,
		     const char *const *values)
{
	struct table *t = table_new(name, true, columns, n_columns);

	table_fill(t, values);
	table_print(t);
	table_free(t);
}

char *table_rows_json(struct table *t)
{
	char *text = NULL, *out = NULL, *from, *to;
	size_t size;
	FILE *f;

	need_ok(scols_print_table_to_string(t->scols, &text));
	/* {"name": [...]} without the object around it. */
	from = need(text ? strchr(text, '[') : NULL);
	to = need(strrchr(from, ']'));
	to[1] = '\0';
	f = need(open_memstream(&out, &size));
	/* Strings hold no newline: each is one between lines, two levels up. */
	for (; *from; from++) {
		fputc(*from, f);
		if (*from == '\n')
			fputs("      ", f);
	}
	need_ok(fclose(f));
	free(text);
	return out;
}
