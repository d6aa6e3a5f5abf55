#include "clean/sweep.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/failpoint.h"

#define NAMES_MS 30000		/* for statements that only look something up */
#define LOCKED_TRIES 20		/* a table that is being altered is tried so often */
#define LOCKED_PAUSE_MS 500
#define SEARCH_PAGES 200	/* of a route's receipts, in one run */

/* Who holds the lock is told by its session. */
static const char lock_sql[] =
	"SELECT pg_catalog.pg_try_advisory_lock(k),"
	" (SELECT pg_catalog.format('pid %s (%s)', a.pid, pg_catalog.concat_ws(', ', 'user ' || a.usename,"
	"   nullif(a.application_name, ''), 'since ' || a.backend_start::timestamptz(0)))"
	"   FROM pg_catalog.pg_locks l JOIN pg_catalog.pg_stat_activity a USING (pid)"
	"   JOIN pg_catalog.pg_database d ON d.oid = l.database"
	"  WHERE d.datname = pg_catalog.current_database() AND l.locktype = 'advisory' AND l.objsubid = 1"
	"    AND l.granted AND (l.classid::bigint << 32 | l.objid::bigint) = k LIMIT 1)"
	" FROM pg_catalog.hashtextextended('strandd cleanup', 0) k";

static const char times_sql[] =
	"SELECT (n - pg_catalog.make_interval(days => $1::integer))::text,"
	" (n - pg_catalog.make_interval(hours => $2::integer))::text FROM pg_catalog.clock_timestamp() n";

static const char tables_sql[] =
	"SELECT t.tbl::pg_catalog.oid, t.tbl::text FROM strandd.clean_tables() t"
	" WHERE $1::text IS NULL OR t.tbl = $1::pg_catalog.oid";

static const char strands_sql[] =
	"SELECT b.seen, b.deleted, b.kept, b.busy, b.refused, pg_catalog.left(b.oldest_kept, 40),"
	" b.oldest_kept_at::timestamptz(0), pg_catalog.left(b.error, 200), b.finished, b.\"position\""
	" FROM strandd.clean_strands($1::pg_catalog.oid::pg_catalog.regclass, $2::timestamptz, $3::integer,"
	"  $4::boolean, $5::boolean, $6) b";

enum strands_column { SEEN, DELETED, KEPT, BUSY, REFUSED, OLDEST, OLDEST_AT, REFUSAL, FINISHED, POSITION };

static const char receipts_sql[] =
	"SELECT b.receipts, b.finished, b.\"position\""
	" FROM strandd.clean_receipts($1::timestamptz, $2::boolean, $3::bigint) b";

static const char routes_sql[] =
	"SELECT r.receipts::pg_catalog.oid, r.route FROM strandd.routes() r";

static const char search_sql[] =
	"SELECT b.orphans, b.finished FROM strandd.search_receipts($1::pg_catalog.oid::pg_catalog.regclass,"
	" $2::integer, $3::integer) b";

int sweep_lock(struct conn *c, int64_t deadline, char *ret_holder, size_t size, struct err *e)
{
	PGresult *res;
	int ret = conn_query(c, lock_sql, 0, NULL, deadline, &res, e);

	if (ret)
		return ret;
	snprintf(ret_holder, size, "%s", *PQgetvalue(res, 0, 0) == 't' ? ""
		 : PQgetisnull(res, 0, 1) ? "a session that has just ended" : PQgetvalue(res, 0, 1));
	PQclear(res);
	return 0;
}

/* What the server still runs must not go on without us. */
static int query(struct sweep *s, const char *sql, int n, const char *const *values, int64_t ms,
		 PGresult **ret_res, struct err *e)
{
	int ret = conn_query(s->conn, sql, n, values, ms ? clock_after_ms(ms) : INT64_MAX, ret_res, e);

	if (ret == STRAND_ESTOPPED || ret == STRAND_ETIMEOUT)
		conn_kill(s->conn, true);
	return ret;
}

static int set_times(struct sweep *s, struct err *e)
{
	char days[16], hours[16];
	const char *values[] = { days, hours };
	PGresult *res;
	int ret;

	snprintf(days, sizeof(days), "%d", s->config->retention_days);
	snprintf(hours, sizeof(hours), "%d", s->config->fence_hours);
	ret = query(s, times_sql, 2, values, NAMES_MS, &res, e);
	if (ret)
		return ret;
	snprintf(s->before, sizeof(s->before), "%s", PQgetvalue(res, 0, 0));
	snprintf(s->fence, sizeof(s->fence), "%s", PQgetvalue(res, 0, 1));
	PQclear(res);
	return 0;
}

int sweep_start(struct sweep *s, const char *table_oid, struct err *e)
{
	const char *values[] = { table_oid };
	PGresult *res;
	int ret;

	s->tables = NULL;
	s->n_tables = s->at = 0;
	s->receipts = 0;
	ret = set_times(s, e);
	if (!ret)
		ret = query(s, tables_sql, 1, values, NAMES_MS, &res, e);
	if (ret)
		return ret;
	s->tables = calloc((size_t)PQntuples(res) + 1, sizeof(*s->tables));
	if (!s->tables)
		ret = err_set(e, STRAND_ENOMEM, "out of memory");
	for (int i = 0; !ret && i < PQntuples(res); i++) {
		struct sweep_table *t = &s->tables[s->n_tables++];
		snprintf(t->oid, sizeof(t->oid), "%s", PQgetvalue(res, i, 0));
		snprintf(t->name, sizeof(t->name), "%s", PQgetvalue(res, i, 1));
	}
	PQclear(res);
	return ret;
}

void sweep_release(struct sweep *s)
{
	free(s->tables);
	s->tables = NULL;
	s->n_tables = 0;
}

static int rest(struct sweep *s, int64_t ms, struct err *e)
{
	if (event_wait(s->stop, clock_after_ms(ms)) == STRAND_ETIMEOUT)
		return 0;
	return err_set(e, STRAND_ESTOPPED, "told to stop");
}

/* After a batch: tells how far it is, and gives others their turn. */
static int batch_done(struct sweep *s, bool changed, struct err *e)
{
	if (s->step)
		s->step(s, s->step_arg);
	return rest(s, changed && !s->config->dry_run ? s->config->pause_ms : 0, e);
}

static uint64_t number(const PGresult *res, int column)
{
	return strtoull(PQgetvalue(res, 0, column), NULL, 10);
}

static void add_counts(struct sweep_table *t, const PGresult *res)
{
	const char *at = PQgetvalue(res, 0, OLDEST_AT);

	t->counts.seen += number(res, SEEN);
	t->counts.deleted += number(res, DELETED);
	t->counts.kept += number(res, KEPT);
	t->counts.busy += number(res, BUSY);
	t->counts.refused += number(res, REFUSED);
	/* ISO dates in one zone sort as text */
	if (*at && (!*t->oldest_kept_at || strcmp(at, t->oldest_kept_at) < 0)) {
		snprintf(t->oldest_kept_at, sizeof(t->oldest_kept_at), "%s", at);
		snprintf(t->oldest_kept, sizeof(t->oldest_kept), "%s", PQgetvalue(res, 0, OLDEST));
	}
	if (!PQgetisnull(res, 0, REFUSAL) && !*t->refusal)
		snprintf(t->refusal, sizeof(t->refusal), "%s", PQgetvalue(res, 0, REFUSAL));
}

static bool worth_a_retry(const struct err *e)
{
	return !strcmp(e->sqlstate, "55P03") || !strcmp(e->sqlstate, "40P01") || !strcmp(e->sqlstate, "40001");
}

/* One batch, tried again while somebody holds the table. */
static int strands_batch(struct sweep *s, struct sweep_table *t, const char *position, PGresult **ret_res,
			 struct err *e)
{
	char batch[16];
	const char *values[] = { t->oid, s->before, batch, s->config->drop_unprocessed ? "t" : "f",
				 s->config->dry_run ? "t" : "f", position };
	int ret, tries = 0;

	snprintf(batch, sizeof(batch), "%d", s->config->batch);
	for (;;) {
		ret = query(s, strands_sql, 6, values, s->config->statement_ms, ret_res, e);
		if (ret != STRAND_ESQL || !worth_a_retry(e) || ++tries == LOCKED_TRIES)
			return ret;
		ret = rest(s, LOCKED_PAUSE_MS, e);
		if (ret)
			return ret;
	}
}

static int clean_table(struct sweep *s, struct sweep_table *t, struct err *e)
{
	char position[200] = "";
	bool finished = false;
	int ret = 0;

	while (!ret && !finished) {
		PGresult *res;
		bool changed;

		ret = strands_batch(s, t, *position ? position : NULL, &res, e);
		if (ret)
			break;
		add_counts(t, res);
		changed = number(res, DELETED) > 0;
		finished = *PQgetvalue(res, 0, FINISHED) == 't';
		snprintf(position, sizeof(position), "%s", PQgetvalue(res, 0, POSITION));
		PQclear(res);
		if (FAILPOINT("clean.batch"))
			ret = err_set(e, STRAND_ECONN, "failpoint clean.batch");
		if (!ret)
			ret = batch_done(s, changed, e);
	}
	if (ret != STRAND_ESQL)
		return ret;
	t->failure = *e;
	return 0;
}

static int clean_receipts(struct sweep *s, struct err *e)
{
	char position[24] = "0";
	const char *values[] = { s->fence, s->config->dry_run ? "t" : "f", position };
	bool finished = false;
	int ret = 0;

	while (!ret && !finished) {
		PGresult *res;
		bool changed;

		ret = query(s, receipts_sql, 3, values, s->config->statement_ms, &res, e);
		if (ret)
			break;
		s->receipts += number(res, 0);
		changed = number(res, 0) > 0;
		finished = *PQgetvalue(res, 0, 1) == 't';
		snprintf(position, sizeof(position), "%s", PQgetvalue(res, 0, 2));
		PQclear(res);
		ret = batch_done(s, changed, e);
	}
	return ret;
}

static int search_route(struct sweep *s, const char *receipts, const char *route, struct err *e)
{
	char batch[16];
	const char *values[] = { receipts, route, batch };
	bool finished = false;
	int ret = 0;

	snprintf(batch, sizeof(batch), "%d", s->config->batch);
	for (int page = 0; !ret && !finished && page < SEARCH_PAGES; page++) {
		PGresult *res;
		uint64_t found;

		ret = query(s, search_sql, 3, values, s->config->statement_ms, &res, e);
		if (ret)
			break;
		found = number(res, 0);
		finished = *PQgetvalue(res, 0, 1) == 't';
		PQclear(res);
		ret = batch_done(s, found > 0, e);
	}
	return ret;
}

static int search_receipts(struct sweep *s, struct err *e)
{
	PGresult *res;
	int ret = query(s, routes_sql, 0, NULL, NAMES_MS, &res, e);

	if (ret)
		return ret;
	for (int i = 0; !ret && i < PQntuples(res); i++)
		ret = search_route(s, PQgetvalue(res, i, 0), PQgetvalue(res, i, 1), e);
	PQclear(res);
	return ret;
}

int sweep_run(struct sweep *s, struct err *e)
{
	const bool search = s->config->search, first = s->config->search_first;
	int ret;

	s->at = s->n_tables;
	ret = clean_receipts(s, e);
	if (!ret && search && first)
		ret = search_receipts(s, e);
	for (s->at = 0; !ret && s->at < s->n_tables; s->at++)
		ret = clean_table(s, &s->tables[s->at], e);
	if (!ret && search && !first)
		ret = search_receipts(s, e);
	return ret;
}

struct sweep_counts sweep_total(const struct sweep *s)
{
	struct sweep_counts sum = { 0 };

	for (size_t i = 0; i < s->n_tables; i++) {
		sum.seen += s->tables[i].counts.seen;
		sum.deleted += s->tables[i].counts.deleted;
		sum.kept += s->tables[i].counts.kept;
		sum.busy += s->tables[i].counts.busy;
		sum.refused += s->tables[i].counts.refused;
	}
	return sum;
}
