#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "strandctl/failed.h"
#include "strandctl/table.h"

#define ERROR_SHOWN 200		/* characters of an error in a list for people */

enum { AT_TABLE, AT_TAG, AT_RECEIVER, AT_ID, AT_STATE, AT_ATTEMPTS, AT_FINISHED, AT_SQLSTATE, AT_ERROR,
       AT_ERROR_JSON, AT_MARKED, N_COLUMNS };

static const struct column columns[N_COLUMNS] = {
	[AT_TABLE] = { "TABLE", COLUMN_TEXT, FOR_BOTH },
	[AT_TAG] = { "TAG", COLUMN_TEXT, FOR_BOTH },
	[AT_RECEIVER] = { "RECEIVER", COLUMN_TEXT, FOR_PROGRAMS },
	[AT_ID] = { "ID", COLUMN_TEXT, FOR_BOTH },
	[AT_STATE] = { "STATE", COLUMN_TEXT, FOR_BOTH },
	[AT_ATTEMPTS] = { "ATTEMPTS", COLUMN_NUMBER, FOR_BOTH },
	[AT_FINISHED] = { "FINISHED AT", COLUMN_TIME, FOR_BOTH },
	[AT_SQLSTATE] = { "SQLSTATE", COLUMN_TEXT, FOR_BOTH },
	[AT_ERROR] = { "ERROR", COLUMN_WRAP, FOR_PEOPLE },
	[AT_ERROR_JSON] = { "ERROR", COLUMN_TEXT, FOR_PROGRAMS },
	[AT_MARKED] = { "MARKED", COLUMN_BOOLEAN, FOR_PROGRAMS },
};

/* What list_sql selects: the route's place in f->routes, then columns from AT_ID on. */
#define LIST_SQL \
	"coalesce(r.long_id, r.strand_id), r.state, r.attempt, r.finished_at, r.sqlstate," \
	" left(translate(r.error, E'\\n\\r\\t', '   '), %d) || CASE WHEN length(r.error) > %d THEN ' ...' ELSE '' END," \
	" r.error, r.marked"

static void show_row(struct failed *f, struct table *table, const PGresult *res, int row)
{
	const struct attachment *a = f->routes[atoi(PQgetvalue(res, row, 0))];
	const char *values[N_COLUMNS] = { a->source->name, a->tag, a->receiver->name };

	for (int i = AT_ID; i < N_COLUMNS; i++)
		values[i] = cell(res, row, i - AT_ID + 1);
	table_fill(table, values);
}

/* Each route's newest by its partial index, then the newest of those. */
static void list_text(struct buf *sql, const struct failed *f, int64_t limit)
{
	buf_adds(sql, "SELECT * FROM (");
	for (size_t i = 0; i < f->n_routes; i++) {
		buf_addf(sql, "%s(SELECT %zu, " LIST_SQL, i ? " UNION ALL " : "", i, ERROR_SHOWN, ERROR_SHOWN);
		failed_from(sql, f, f->routes[i]);
		buf_addf(sql, FAILED_ORDER " LIMIT %" PRId64 ")", limit);
	}
	buf_addf(sql, ") x ORDER BY 5 DESC, 2 LIMIT %" PRId64, limit);
}

int failed_list(struct failed *f, int64_t limit, struct err *e)
{
	struct table *table = table_new("failed", f->ctl->json, columns, N_COLUMNS);
	struct buf sql = BUF_INIT;
	PGresult *res = NULL;
	int ret = 0;

	buf_init(&sql);
	list_text(&sql, f, limit);
	if (f->n_routes)
		ret = sql.failed ? err_set(e, STRAND_ENOMEM, "out of memory")
			: failed_query(f, sql.data, NULL, &res, e);
	for (int row = 0; !ret && row < PQntuples(res); row++)
		show_row(f, table, res, row);
	if (!ret)
		table_print(table);
	/* Named ones were told one by one. */
	if (!ret && !PQntuples(res) && !f->args->ids.n)
		ctl_warn(FAILED_NOTHING);
	if (!ret && PQntuples(res) == limit && f->args->limit == FAILED_ALL)
		ctl_warn("only the newest %" PRId64 " are shown; --limit shows more", limit);
	PQclear(res);
	buf_release(&sql);
	table_free(table);
	return ret;
}

enum { SHOW_TABLE, SHOW_TAG, SHOW_RECEIVER, SHOW_RECEIPT, SHOW_STRAND, N_SHOW };

static const struct column show_columns[N_SHOW] = {
	[SHOW_TABLE] = { "TABLE", COLUMN_TEXT, FOR_PROGRAMS },
	[SHOW_TAG] = { "TAG", COLUMN_TEXT, FOR_PROGRAMS },
	[SHOW_RECEIVER] = { "RECEIVER", COLUMN_TEXT, FOR_PROGRAMS },
	[SHOW_RECEIPT] = { "RECEIPT", COLUMN_JSON, FOR_PROGRAMS },
	[SHOW_STRAND] = { "STRAND", COLUMN_JSON, FOR_PROGRAMS },
};

static void add_line(struct table *table, const char *name, const char *value)
{
	struct libscols_line *row;

	if (!value)
		return;
	row = table_row(table, NULL);
	table_set(table, row, 0, name);
	table_set(table, row, 1, value);
}

/* The columns of show_sql up to the receipt's JSON, then the strand's own. */
static void show_one(const struct attachment *a, const PGresult *res, int row, bool first)
{
	static const struct column lines[] = { { "COLUMN", COLUMN_TEXT, FOR_PEOPLE },
					       { "VALUE", COLUMN_WRAP, FOR_PEOPLE } };
	struct table *table = table_new("failed", false, lines, 2);

	if (!first)
		putchar('\n');
	add_line(table, "(route)", a->tag);
	add_line(table, "(table)", a->source->name);
	add_line(table, "(receiver)", a->receiver->name);
	for (int i = 2; i < PQnfields(res); i++)
		add_line(table, PQfname(res, i), cell(res, row, i));
	if (PQgetisnull(res, row, 1))
		add_line(table, "(strand)", "is gone");
	table_print(table);
	table_free(table);
}

/* The receipt and the strand as JSON, then both column by column. */
static const char show_sql[] =
	"SELECT to_jsonb(r) - 'route' - 'long_id' || jsonb_build_object('strand_id', coalesce(r.long_id, r.strand_id)),"
	" to_jsonb(s), r.state AS \"(state)\", r.attempt AS \"(attempts)\", r.started_at AS \"(started at)\","
	" r.finished_at AS \"(finished at)\", r.sqlstate AS \"(sqlstate)\", r.error AS \"(error)\","
	" CASE WHEN r.marked THEN 'yes' ELSE 'no' END AS \"(marked)\", s.*"
	" FROM (SELECT r.*";

static int show_route(struct failed *f, const struct attachment *a, struct table *table, size_t *n, struct err *e)
{
	struct buf sql = BUF_INIT;
	PGresult *res;
	int ret;

	buf_init(&sql);
	buf_adds(&sql, show_sql);
	failed_from(&sql, f, a);
	buf_addf(&sql, ") r LEFT JOIN %s s ON s.id = coalesce(r.long_id, r.strand_id)" FAILED_ORDER, a->source->sql);
	ret = sql.failed ? err_set(e, STRAND_ENOMEM, "out of memory") : failed_query(f, sql.data, NULL, &res, e);
	buf_release(&sql);
	if (ret)
		return ret;
	for (int row = 0; row < PQntuples(res); row++) {
		const char *values[N_SHOW] = { a->source->name, a->tag, a->receiver->name, cell(res, row, 0),
					       cell(res, row, 1) };

		if (f->ctl->json)
			table_fill(table, values);
		else
			show_one(a, res, row, !(*n)++);
	}
	PQclear(res);
	return 0;
}

int failed_show(struct failed *f, struct err *e)
{
	struct table *table = table_new("failed", true, show_columns, N_SHOW);
	size_t n = 0;
	int ret = 0;

	for (size_t i = 0; !ret && i < f->n_routes; i++)
		ret = show_route(f, f->routes[i], table, &n, e);
	if (!ret && f->ctl->json)
		table_print(table);
	table_free(table);
	return ret;
}
