#include "strandctl/route_status.h"

#include <stdio.h>
#include <string.h>

#include "base/buf.h"

#define TEXT_OF(x) #x
#define TEXT(x) TEXT_OF(x)
#define ROWS_READ 10000		/* from either end of what may lack a receipt */
#define MAX_COUNT 1000
#define RECEIPTS_READ 20000

/* Strands that may lack a receipt begin at the position.  Where they are many,
 * the oldest and the newest are looked at.  %1$s source, %2$s receipts, %3$s
 * routes; $1 route, $2 tag.  Nothing here may tempt the planner to the index on
 * tags, so the look-up is a scalar subquery and tags are compared outside. */
static const char pending_sql[] =
	"WITH route AS MATERIALIZED (SELECT position AS p, history AS h FROM %3$s WHERE route = $1::integer),"
	" oldest AS MATERIALIZED (SELECT s.id, s.tags, s.tagged_at, s.xact_id FROM %1$s s"
	"  WHERE s.xact_id >= (SELECT p FROM route)"
	"  ORDER BY s.xact_id, hashtextextended(s.id, 0) LIMIT " TEXT(ROWS_READ) "),"
	" newest AS MATERIALIZED (SELECT s.id, s.tags, s.tagged_at, s.xact_id FROM %1$s s"
	"  WHERE s.xact_id >= (SELECT p FROM route) AND (SELECT count(*) FROM oldest) = " TEXT(ROWS_READ)
	"  ORDER BY s.xact_id DESC, hashtextextended(s.id, 0) DESC LIMIT " TEXT(ROWS_READ) "),"
	" seen AS (SELECT * FROM oldest UNION SELECT * FROM newest),"
	" pending AS MATERIALIZED (SELECT s.tagged_at FROM seen s"
	"  WHERE coalesce(s.tags @> jsonb_build_array($2::text), false)"
	"    AND NOT coalesce(pg_visible_in_snapshot(s.xact_id, (SELECT h FROM route)), false)"
	"    AND (SELECT true FROM %2$s r WHERE r.route = $1::integer"
	"          AND r.strand_id = strandd.receipt_key(s.id)) IS NULL LIMIT " TEXT(MAX_COUNT) ")"
	" SELECT (SELECT count(*) FROM pending),"
	"  (SELECT count(*) FROM oldest) = " TEXT(ROWS_READ)
	"   OR (SELECT count(*) FROM pending) = " TEXT(MAX_COUNT) ","
	"  (SELECT min(tagged_at)::timestamptz(0) FROM pending),"
	"  (SELECT round(extract(epoch FROM clock_timestamp() - min(tagged_at) FILTER (WHERE isfinite(tagged_at))), 1) FROM pending)";

/* What is due and what failed through their own partial indexes; of the rest the
 * first ones that the key's index yields. */
static const char settled_sql[] =
	"WITH due AS MATERIALIZED (SELECT state FROM %1$s WHERE state IN ('running', 'retry')"
	"   AND route = $1::integer ORDER BY due_at LIMIT " TEXT(MAX_COUNT) "),"
	" bad AS MATERIALIZED (SELECT state FROM %1$s WHERE state IN ('failed', 'expired')"
	"   AND route = $1::integer ORDER BY finished_at DESC LIMIT " TEXT(MAX_COUNT) "),"
	" unmarked AS MATERIALIZED (SELECT FROM %1$s WHERE state IN ('failed', 'expired') AND NOT marked"
	"   AND route = $1::integer LIMIT " TEXT(MAX_COUNT) "),"
	" known AS MATERIALIZED (SELECT state FROM %1$s WHERE route = $1::integer"
	"   ORDER BY strand_id LIMIT " TEXT(RECEIPTS_READ) ")"
	" SELECT (SELECT count(*) FROM due WHERE state = 'running'),"
	"  (SELECT count(*) FROM due WHERE state = 'retry'),"
	"  count(*) FILTER (WHERE state = 'done'), (SELECT count(*) FROM bad WHERE state = 'failed'),"
	"  (SELECT count(*) FROM bad WHERE state = 'expired'), count(*) FILTER (WHERE state = 'withdrawn'),"
	"  count(*) FILTER (WHERE state = 'skipped'), (SELECT count(*) FROM unmarked),"
	"  (SELECT count(*) FROM due) = " TEXT(MAX_COUNT) ", (SELECT count(*) FROM bad) = " TEXT(MAX_COUNT) ","
	"  count(*) = " TEXT(RECEIPTS_READ) ","
	"  (SELECT due_at::timestamptz(0) FROM %1$s WHERE state IN ('running', 'retry') AND state = 'retry'"
	"    AND route = $1::integer ORDER BY due_at LIMIT 1),"
	"  (SELECT suspended_sqlstate FROM %2$s WHERE route = $1::integer)"
	" FROM known";

/* Columns of settled_sql: numbers in the order of AT_RUNNING to AT_UNMARKED, which of
 * them are bounds, and the rest. */
enum { SETTLED_UNMARKED = 7, SETTLED_DUE_BOUND, SETTLED_FAILED_BOUND, SETTLED_BOUND, SETTLED_NEXT_DUE,
       SETTLED_SQLSTATE };

enum { AT_TAG, AT_SOURCE, AT_RECEIVER, AT_STATE, AT_PENDING, AT_PENDING_BOUND, AT_OLDEST, AT_OLDEST_JSON,
       AT_AGE, AT_RUNNING, AT_RETRY, AT_DONE, AT_FAILED, AT_EXPIRED, AT_WITHDRAWN, AT_SKIPPED,
       AT_UNMARKED, AT_FAILED_BOUND, AT_SETTLED_BOUND, AT_NEXT_DUE, AT_SUSPENDED, AT_SUSPENDED_ERROR,
       AT_SUSPENDED_SQLSTATE, AT_POSITION, AT_ATTACHED, N_COLUMNS };

static const struct column columns[N_COLUMNS] = {
	[AT_TAG] = { "TAG", COLUMN_TEXT, FOR_BOTH },
	[AT_SOURCE] = { "SOURCE", COLUMN_TEXT, FOR_BOTH },
	[AT_RECEIVER] = { "RECEIVER", COLUMN_TEXT, FOR_BOTH },
	[AT_STATE] = { "STATE", COLUMN_WRAP, FOR_BOTH },
	[AT_PENDING] = { "PENDING", COLUMN_NUMBER, FOR_BOTH },
	[AT_PENDING_BOUND] = { "PENDING IS BOUND", COLUMN_BOOLEAN, FOR_PROGRAMS },
	[AT_OLDEST] = { "OLDEST", COLUMN_TIME, FOR_PEOPLE },
	[AT_OLDEST_JSON] = { "OLDEST WAITING", COLUMN_TEXT, FOR_PROGRAMS },
	[AT_AGE] = { "OLDEST AGE S", COLUMN_NUMBER, FOR_PROGRAMS },
	[AT_RUNNING] = { "RUNNING", COLUMN_NUMBER, FOR_PROGRAMS },
	[AT_RETRY] = { "RETRY", COLUMN_NUMBER, FOR_PROGRAMS },
	[AT_DONE] = { "DONE", COLUMN_NUMBER, FOR_PROGRAMS },
	[AT_FAILED] = { "FAILED", COLUMN_NUMBER, FOR_PROGRAMS },
	[AT_EXPIRED] = { "EXPIRED", COLUMN_NUMBER, FOR_PROGRAMS },
	[AT_WITHDRAWN] = { "WITHDRAWN", COLUMN_NUMBER, FOR_PROGRAMS },
	[AT_SKIPPED] = { "SKIPPED", COLUMN_NUMBER, FOR_PROGRAMS },
	[AT_UNMARKED] = { "UNMARKED", COLUMN_NUMBER, FOR_PROGRAMS },
	[AT_FAILED_BOUND] = { "FAILED IS BOUND", COLUMN_BOOLEAN, FOR_PROGRAMS },
	[AT_SETTLED_BOUND] = { "SETTLED IS BOUND", COLUMN_BOOLEAN, FOR_PROGRAMS },
	[AT_NEXT_DUE] = { "NEXT DUE", COLUMN_TEXT, FOR_PROGRAMS },
	[AT_SUSPENDED] = { "SUSPENDED AT", COLUMN_TEXT, FOR_PROGRAMS },
	[AT_SUSPENDED_ERROR] = { "SUSPENDED ERROR", COLUMN_TEXT, FOR_PROGRAMS },
	[AT_SUSPENDED_SQLSTATE] = { "SUSPENDED SQLSTATE", COLUMN_TEXT, FOR_PROGRAMS },
	[AT_POSITION] = { "POSITION", COLUMN_TEXT, FOR_PROGRAMS },
	[AT_ATTACHED] = { "ATTACHED AT", COLUMN_TEXT, FOR_PROGRAMS },
};

enum { RECEIPTS_TAG, RECEIPTS_SOURCE, RECEIPTS_RECEIVER, RECEIPTS_TEXT, RECEIPTS_POSITION, N_RECEIPTS_COLUMNS };

static const struct column receipts_columns[N_RECEIPTS_COLUMNS] = {
	[RECEIPTS_TAG] = { "TAG", COLUMN_TEXT, FOR_PEOPLE },
	[RECEIPTS_SOURCE] = { "SOURCE", COLUMN_TEXT, FOR_PEOPLE },
	[RECEIPTS_RECEIVER] = { "RECEIVER", COLUMN_TEXT, FOR_PEOPLE },
	[RECEIPTS_TEXT] = { "RECEIPTS", COLUMN_WRAP, FOR_PEOPLE },
	[RECEIPTS_POSITION] = { "POSITION", COLUMN_NUMBER, FOR_PEOPLE },
};

void route_status_init(struct route_status *s, struct ctl *ctl)
{
	s->ctl = ctl;
	buf_init(&s->suspended);
	s->routes = table_new("routes", ctl->json, columns, N_COLUMNS);
	s->receipts = table_new("receipts", false, receipts_columns, N_RECEIPTS_COLUMNS);
}

void route_status_release(struct route_status *s)
{
	buf_release(&s->suspended);
	table_free(s->routes);
	table_free(s->receipts);
}

static const char *state_of(const struct attachment *a)
{
	if (!a->attached)
		return "detached";
	if (!a->same_system)
		return "not adopted";
	if (a->suspended_at)
		return "suspended";
	return a->history ? "history unfinished" : "attached";
}

static int pending(struct route_status *s, struct libscols_line *row, const struct attachment *a,
		   struct err *e)
{
	const char *values[] = { a->number, a->tag };
	struct buf sql = BUF_INIT;
	char count[32];
	PGresult *res;
	int ret;

	buf_init(&sql);
	buf_addf(&sql, pending_sql, a->source->sql, a->receiver->receipts, a->receiver->routes);
	ret = sql.failed ? err_set(e, STRAND_ENOMEM, "out of memory")
		: ctl_query(s->ctl, sql.data, 2, values, &res, e);
	buf_release(&sql);
	if (ret)
		return ret;
	/* "1000+" for people where the count stopped at its bound. */
	snprintf(count, sizeof(count), "%s%s", PQgetvalue(res, 0, 0),
		 *PQgetvalue(res, 0, 1) == 't' && !s->ctl->json ? "+" : "");
	table_set(s->routes, row, AT_PENDING, count);
	table_set(s->routes, row, AT_PENDING_BOUND, PQgetvalue(res, 0, 1));
	table_set(s->routes, row, AT_OLDEST, cell(res, 0, 2));
	table_set(s->routes, row, AT_OLDEST_JSON, cell(res, 0, 2));
	table_set(s->routes, row, AT_AGE, cell(res, 0, 3));
	PQclear(res);
	return 0;
}

/* "20000+ done, 3 failed, 1 retry, next due 2026-11-22 22:21:18+00". */
static void show_receipts(struct route_status *s, const struct attachment *a, const PGresult *res)
{
	static const char *const states[] = { "running", "retry", "done", "failed", "expired", "withdrawn",
					      "skipped", "not marked yet" };
	static const int bounds[] = { SETTLED_DUE_BOUND, SETTLED_DUE_BOUND, SETTLED_BOUND, SETTLED_FAILED_BOUND,
				      SETTLED_FAILED_BOUND, SETTLED_BOUND, SETTLED_BOUND, SETTLED_FAILED_BOUND };
	struct libscols_line *row = table_row(s->receipts, NULL);
	struct buf text = BUF_INIT;

	buf_init(&text);
	for (int i = 0; i < 8; i++)
		if (strcmp(PQgetvalue(res, 0, i), "0") != 0)
			buf_addf(&text, "%s%s%s %s", text.len ? ", " : "", PQgetvalue(res, 0, i),
				 *PQgetvalue(res, 0, bounds[i]) == 't' ? "+" : "", states[i]);
	if (!PQgetisnull(res, 0, SETTLED_NEXT_DUE))
		buf_addf(&text, ", next due %s", PQgetvalue(res, 0, SETTLED_NEXT_DUE));
	table_set(s->receipts, row, RECEIPTS_TAG, a->tag);
	table_set(s->receipts, row, RECEIPTS_SOURCE, a->source->name);
	table_set(s->receipts, row, RECEIPTS_RECEIVER, a->receiver->name);
	table_set(s->receipts, row, RECEIPTS_TEXT, text.len ? text.data : "none");
	table_set(s->receipts, row, RECEIPTS_POSITION, a->position);
	buf_release(&text);
}

static void tell_suspended(struct route_status *s, const struct attachment *a, const char *sqlstate)
{
	buf_addf(&s->suspended, "SUSPENDED: %s from %s to %s since %s: %s%s%s%s; mend its handler, then:"
		 " strandctl resume %s --source %s\n", a->tag, a->source->name, a->receiver->name, a->suspended_at,
		 *sqlstate ? "[" : "", sqlstate, *sqlstate ? "] " : "",
		 a->suspended_error ? a->suspended_error : "no error told", a->tag, a->source->name);
}

static int settled(struct route_status *s, struct libscols_line *row, const struct attachment *a,
		   struct err *e)
{
	const char *values[] = { a->number };
	struct buf sql = BUF_INIT;
	PGresult *res;
	int ret;

	buf_init(&sql);
	buf_addf(&sql, settled_sql, a->receiver->receipts, a->receiver->routes);
	ret = sql.failed ? err_set(e, STRAND_ENOMEM, "out of memory")
		: ctl_query(s->ctl, sql.data, 1, values, &res, e);
	buf_release(&sql);
	if (ret)
		return ret;
	for (int i = 0; i <= SETTLED_UNMARKED; i++)
		table_set(s->routes, row, (size_t)(AT_RUNNING + i), PQgetvalue(res, 0, i));
	table_set(s->routes, row, AT_FAILED_BOUND, PQgetvalue(res, 0, SETTLED_FAILED_BOUND));
	table_set(s->routes, row, AT_SETTLED_BOUND, PQgetvalue(res, 0, SETTLED_BOUND));
	table_set(s->routes, row, AT_NEXT_DUE, cell(res, 0, SETTLED_NEXT_DUE));
	table_set(s->routes, row, AT_SUSPENDED, a->suspended_at);
	table_set(s->routes, row, AT_SUSPENDED_ERROR, a->suspended_error);
	table_set(s->routes, row, AT_SUSPENDED_SQLSTATE, cell(res, 0, SETTLED_SQLSTATE));
	if (a->suspended_at && a->attached)
		tell_suspended(s, a, PQgetvalue(res, 0, SETTLED_SQLSTATE));
	show_receipts(s, a, res);
	PQclear(res);
	return 0;
}

int route_status_add(struct route_status *s, const struct attachment *a, struct err *e)
{
	struct libscols_line *row = table_row(s->routes, NULL);
	int ret;

	table_set(s->routes, row, AT_TAG, a->tag);
	table_set(s->routes, row, AT_SOURCE, a->source->name);
	table_set(s->routes, row, AT_RECEIVER, a->receiver->name);
	table_set(s->routes, row, AT_STATE, state_of(a));
	table_set(s->routes, row, AT_POSITION, a->position);
	table_set(s->routes, row, AT_ATTACHED, a->attached_at);
	ret = a->attached ? pending(s, row, a, e) : 0;
	return ret ? ret : settled(s, row, a, e);
}

void route_status_print(struct route_status *s)
{
	putchar('\n');
	table_print(s->routes);
	putchar('\n');
	table_print(s->receipts);
}
