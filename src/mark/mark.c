#include "mark/mark.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "base/clock.h"
#include "base/failpoint.h"
#include "strand/sqlstate.h"

#define MARK_TIMEOUT_MS 10000
#define REFUSED_MAX 10		/* so many in a row: what refuses them may refuse thousands */

/* A mark that a crash of the server loses is lost with its note in the receipt, and
 * made again: so no commit waits for the disk. */
static const char pins_sql[] =
	"SET synchronous_commit = off; SET lock_timeout = '250ms'; SET enable_seqscan = off;"
	" SET enable_bitmapscan = off; SET enable_hashjoin = off; SET enable_mergejoin = off; SET enable_sort = off;"
	" SET plan_cache_mode = force_generic_plan; SET max_parallel_workers_per_gather = 0";

static const char has_updated_at_sql[] =
	"SELECT EXISTS (SELECT FROM pg_catalog.pg_attribute a WHERE a.attrelid = $1::pg_catalog.regclass"
	" AND a.attname = 'updated_at' AND NOT a.attisdropped AND a.attgenerated = ''"
	" AND a.atttypid IN ('timestamptz'::pg_catalog.regtype, 'timestamp'::pg_catalog.regtype))";

int mark_prepare(struct conn *c, int64_t deadline, struct err *e)
{
	return conn_script(c, pins_sql, deadline, e);
}

static void forget_texts(struct mark_route *m)
{
	free(m->page);
	free(m->mark);
	m->page = NULL;
	m->mark = NULL;
}

void mark_route_release(struct mark_route *m)
{
	forget_texts(m);
	*m = (struct mark_route){ 0 };
}

/* $1: the key after which the page begins. */
static void build_page(struct buf *b, const struct route *r)
{
	buf_addf(b, "SELECT p.strand_id, coalesce(p.long_id, p.strand_id), p.state, coalesce(p.sqlstate, '') FROM %s p"
		 " WHERE p.route = %d AND p.state IN ('failed', 'expired') AND NOT p.marked"
		 "  AND p.strand_id > $1 COLLATE \"C\" ORDER BY p.strand_id LIMIT 100", r->receipts, r->number);
}

/* $1 key, $2 id, $3 state, $4 the mark as a JSON array.  First the receipt, which an
 * operator may be replaying, then the strand; neither is waited for.  A strand that
 * is gone has nothing to be marked. */
static void build_mark(struct buf *b, const struct route *r, bool has_updated_at)
{
	buf_addf(b,
		 "WITH receipt AS MATERIALIZED (SELECT 1 FROM %s p WHERE p.route = %d AND p.strand_id = $1 COLLATE \"C\""
		 "   AND p.state = $3 AND NOT p.marked FOR NO KEY UPDATE SKIP LOCKED),"
		 " strand AS MATERIALIZED (SELECT t.id FROM %s t WHERE t.id = $2 AND (SELECT count(*) FROM receipt) = 1"
		 "   FOR NO KEY UPDATE SKIP LOCKED),"
		 " marked AS (UPDATE %s t SET tags = coalesce(nullif(t.tags, 'null'), '[]') OPERATOR(pg_catalog.||) $4::jsonb%s"
		 "   WHERE t.id = (SELECT s.id FROM strand s) AND NOT coalesce(t.tags OPERATOR(pg_catalog.@>) $4::jsonb, false)"
		 "   RETURNING 1)"
		 " UPDATE %s p SET marked = true WHERE p.route = %d AND p.strand_id = $1 COLLATE \"C\""
		 "  AND (SELECT count(*) FROM receipt) = 1 AND (SELECT count(*) FROM marked) IS NOT NULL"
		 "  AND ((SELECT count(*) FROM strand) = 1 OR NOT EXISTS (SELECT FROM %s t WHERE t.id = $2))",
		 r->receipts, r->number, r->source, r->source,
		 has_updated_at ? ", updated_at = pg_catalog.now()" : "", r->receipts, r->number, r->source);
}

static int prepare(struct mark_route *m, const struct route *r, struct conn *c, struct err *e)
{
	const char *values[] = { r->source };
	struct buf b = BUF_INIT;
	PGresult *res;
	int ret;

	if (m->mark)
		return 0;
	ret = conn_query(c, has_updated_at_sql, 1, values, clock_after_ms(MARK_TIMEOUT_MS), &res, e);
	if (ret)
		return ret;
	buf_init(&b);
	build_page(&b, r);
	m->page = buf_steal(&b);
	buf_init(&b);
	build_mark(&b, r, *PQgetvalue(res, 0, 0) == 't');
	m->mark = buf_steal(&b);
	PQclear(res);
	if (m->page && m->mark)
		return 0;
	forget_texts(m);
	return err_set(e, STRAND_ENOMEM, "out of memory");
}

static const char *mark_of(const char *state, const char *sqlstate)
{
	if (!strcmp(state, "expired"))
		return "[\"error:timeout\"]";
	return strcmp(sqlstate, SQLSTATE_UNKNOWN) ? "[\"error:processing_failed\"]" : "[\"error:outcome_unknown\"]";
}

static int mark_one(const struct mark_route *m, struct conn *c, const PGresult *page, int row,
		    struct mark_result *result, struct err *e)
{
	const char *state = PQgetvalue(page, row, 2);
	const char *values[] = { PQgetvalue(page, row, 0), PQgetvalue(page, row, 1), state,
				 mark_of(state, PQgetvalue(page, row, 3)) };
	PGresult *res;
	int ret = FAILPOINT("mark.before") ? err_set(e, STRAND_ECONN, "failpoint mark.before")
		: conn_query(c, m->mark, 4, values, clock_after_ms(MARK_TIMEOUT_MS), &res, e);

	if (ret)
		return ret;
	if (!strcmp(PQcmdTuples(res), "1"))
		result->marked++;
	else
		result->held = true;
	PQclear(res);
	return 0;
}

/* One round: who takes part in it, and how it goes. */
struct round {
	struct mark_route *m;
	struct conn *conn;
	const struct stop *stop;
	struct mark_result *result;
	unsigned refused;	/* marks in a row that failed */
	int first;		/* the first fault, and `e` what is said of it */
	struct err *e;
};

/* What the statement itself misses (class 42, and no trigger's), it misses for all of
 * them; or the table is another by now, and the texts are wrong. */
static void note_fault(struct round *d, int ret, const struct err *e)
{
	bool missing = ret == STRAND_ESQL && !strncmp(e->sqlstate, "42", 2) && !e->nested;

	if (!d->first) {
		d->first = ret;
		*d->e = *e;
	}
	d->refused += ret == STRAND_ESQL && !missing ? 1 : REFUSED_MAX;
	if (missing)
		forget_texts(d->m);
}

static void try_one(struct round *d, const PGresult *page, int row)
{
	struct err e;
	int ret = stop_level(d->stop) == STOP_NONE ? mark_one(d->m, d->conn, page, row, d->result, &e)
						   : err_set(&e, STRAND_ESTOPPED, "told to stop");

	if (ret)
		note_fault(d, ret, &e);
	else
		d->refused = 0;
}

/* Marks what comes behind `after`, up to `until` ("": to the end); false: the round is
 * over. */
static bool mark_from(struct round *d, const char *until)
{
	char *after = d->m->after;
	int n;

	do {
		const char *values[] = { after };
		PGresult *page;
		struct err e;
		int ret = conn_query(d->conn, d->m->page, 1, values, clock_after_ms(MARK_TIMEOUT_MS), &page, &e);

		if (ret) {
			note_fault(d, ret, &e);
			return false;
		}
		n = PQntuples(page);
		for (int i = 0; i < n && d->refused < REFUSED_MAX; i++) {
			const char *key = PQgetvalue(page, i, 0);

			if (*until && strcmp(key, until) > 0) {
				n = 0;
				break;
			}
			try_one(d, page, i);
			snprintf(after, MARK_KEY_SIZE, "%s", key);
		}
		PQclear(page);
	} while (n && d->refused < REFUSED_MAX);
	if (n)
		return false;
	*after = '\0';
	return true;
}

static bool go_on(struct round *d)
{
	struct mark_route *m = d->m;

	if (!m->wrapped && !mark_from(d, ""))
		return false;
	m->wrapped = true;
	return !*m->until || mark_from(d, m->until);
}

int mark_route(struct mark_route *m, const struct route *r, bool news, struct conn *c, const struct stop *stop,
	       struct mark_result *ret_result, struct err *e)
{
	struct round d = { .m = m, .conn = c, .stop = stop, .result = ret_result, .e = e };
	bool over;

	if (news) {
		memcpy(m->until, m->after, sizeof(m->until));
		m->wrapped = false;
		m->news = true;
	}
	d.first = prepare(m, r, c, e);
	over = !d.first && go_on(&d);
	m->unfinished = m->unfinished || d.first || ret_result->held;
	m->left = !over || m->unfinished;
	if (over) {
		*m->until = '\0';
		m->wrapped = false;
		m->news = false;
		m->unfinished = false;
	}
	return d.first;
}
