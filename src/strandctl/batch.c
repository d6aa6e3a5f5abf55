#include "strandctl/batch.h"

#include <stdio.h>
#include <string.h>

#include "base/buf.h"
#include "pg/array.h"
#include "pg/record.h"

void batch_add(struct batch *b, struct row *row)
{
	b->rows[b->n++] = *row;
	b->bytes += strlen(row->text);
}

bool batch_full(const struct batch *b)
{
	return b->n == BATCH_ROWS || b->bytes >= BATCH_BYTES;
}

void batch_clear(struct batch *b)
{
	for (size_t i = 0; i < b->n; i++)
		row_release(&b->rows[i]);
	b->n = b->bytes = 0;
}

/* Rows of one shape go in by one statement, which names the columns that they
 * give: the others get the table's defaults. */
static bool same_shape(const struct row *a, const struct row *b)
{
	return !strcmp(a->columns, b->columns) && !a->tags == !b->tags;
}

static void insert_sql(struct buf *sql, const struct target *t, const struct row *shape)
{
	buf_addf(sql, "INSERT INTO %s (id%s%s) SELECT u.id%s", t->sql, shape->tags ? ", tags" : "",
		 shape->columns, shape->tags ? ", u.tags::jsonb" : "");
	record_fields(sql, shape->columns);
	buf_addf(sql, " FROM unnest($1::text[], $2::text[], $3::text[]) WITH ORDINALITY"
		 " u (line, id, tags, n),"
		 " LATERAL jsonb_populate_record(NULL::%s, u.line::jsonb - '{id,tags}'::text[]) r"
		 " ORDER BY u.n", t->sql);
}

struct arrays {
	struct buf sql, lines, ids, tags;
};

static void arrays_init(struct arrays *a)
{
	buf_init(&a->sql);
	buf_init(&a->lines);
	buf_init(&a->ids);
	buf_init(&a->tags);
}

static void arrays_release(struct arrays *a)
{
	buf_release(&a->sql);
	buf_release(&a->lines);
	buf_release(&a->ids);
	buf_release(&a->tags);
}

static void arrays_fill(struct arrays *a, const struct row *rows, size_t n)
{
	array_begin(&a->lines);
	array_begin(&a->ids);
	array_begin(&a->tags);
	for (size_t i = 0; i < n; i++) {
		const char *tags = rows[i].tags ? rows[i].tags : "";

		array_item(&a->lines, rows[i].text, strlen(rows[i].text));
		array_item(&a->ids, rows[i].id, strlen(rows[i].id));
		array_item(&a->tags, tags, strlen(tags));
	}
	array_end(&a->lines);
	array_end(&a->ids);
	array_end(&a->tags);
}

/* `n` rows of one shape. */
static int insert(const struct target *t, const struct row *rows, size_t n, struct err *e)
{
	struct arrays a;
	int ret;

	arrays_init(&a);
	insert_sql(&a.sql, t, rows);
	arrays_fill(&a, rows, n);
	if (a.sql.failed || a.lines.failed || a.ids.failed || a.tags.failed) {
		ret = err_set(e, STRAND_ENOMEM, "out of memory");
	} else {
		const char *values[] = { a.lines.data, a.ids.data, a.tags.data };

		ret = ctl_query(t->ctl, a.sql.data, 3, values, NULL, e);
	}
	arrays_release(&a);
	return ret;
}

static int insert_all(const struct batch *b, const struct target *t, struct err *e)
{
	size_t from = 0;
	int ret = 0;

	while (!ret && from < b->n) {
		size_t n = 1;

		while (from + n < b->n && same_shape(&b->rows[from], &b->rows[from + n]))
			n++;
		ret = insert(t, &b->rows[from], n, e);
		from += n;
	}
	return ret;
}

/* The column whose value the server refuses by itself, "" when none is. */
static void bad_column(const struct target *t, const struct row *row, char *out, size_t size)
{
	const char *values[] = { row->text, NULL };

	snprintf(out, size, "%s", "");
	/* json-c takes a little more for JSON than PostgreSQL does: NaN, say. */
	if (ctl_query(t->ctl, "SELECT $1::jsonb", 1, values, NULL, NULL))
		return;
	for (int i = 0; i < PQntuples(t->columns); i++) {
		const char *name = PQgetvalue(t->columns, i, 0);
		struct buf sql = BUF_INIT;
		int ret;

		values[1] = name;
		buf_init(&sql);
		buf_addf(&sql, "SELECT jsonb_populate_record(NULL::%s, jsonb_build_object($2::text,"
			 " $1::jsonb -> $2::text)) WHERE $1::jsonb ? $2::text", t->sql);
		ret = ctl_query(t->ctl, sql.data, 2, values, NULL, NULL);
		buf_release(&sql);
		if (ret == STRAND_ESQL) {
			snprintf(out, size, "column \"%s\": ", name);
			return;
		}
	}
}

/* A batch that the server refused is gone through again row by row, and undone:
 * the first row that fails is the one to tell. */
static int find_culprit(const struct batch *b, const struct target *t, struct err *e)
{
	struct err first = *e, ignored;
	char place[32], column[100], detail[200];
	int ret = ctl_exec(t->ctl, "BEGIN", e);

	for (size_t i = 0; !ret && i < b->n; i++) {
		ret = insert(t, &b->rows[i], 1, e);
		if (ret != STRAND_ESQL)
			continue;
		ctl_server_note(t->ctl, "DETAIL", detail, sizeof(detail));
		ret = ctl_exec(t->ctl, "ROLLBACK", &ignored);
		if (ret)
			return ret;
		row_place(b->rows[i].line, place, sizeof(place));
		bad_column(t, &b->rows[i], column, sizeof(column));
		return err_set(e, STRAND_EINVAL, "%s%s%s%s%s", place, column, e->text,
			       *detail ? ": " : "", detail);
	}
	if (!ret)
		ret = ctl_exec(t->ctl, "ROLLBACK", e);
	if (ret)
		return ret;
	*e = first;
	return first.code;
}

/* Else it is nobody's row, and a second look would find nothing. */
static bool is_about_rows(const struct err *e)
{
	return !strncmp(e->sqlstate, "22", 2) || !strncmp(e->sqlstate, "23", 2) ||
	       !strncmp(e->sqlstate, "42", 2) || !strncmp(e->sqlstate, "54", 2) ||
	       !strncmp(e->sqlstate, "P0", 2);
}

int batch_write(const struct batch *b, const struct target *t, struct err *e)
{
	struct err ignored;
	int ret = ctl_exec(t->ctl, "BEGIN", e);

	if (!ret)
		ret = insert_all(b, t, e);
	if (!ret && ctl_interrupted(t->ctl))
		ret = err_set(e, STRAND_ESTOPPED, "interrupted");
	if (!ret)
		return ctl_commit(t->ctl, e);
	if (ret == STRAND_ESQL) {
		int undone = ctl_exec(t->ctl, "ROLLBACK", &ignored);

		if (undone) {
			*e = ignored;
			return undone;
		}
		if (is_about_rows(e))
			ret = find_culprit(b, t, e);
	}
	return ret;
}
