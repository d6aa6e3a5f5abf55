#include "mark/mark.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "base/clock.h"
#include "base/failpoint.h"

#define MARK_TIMEOUT_MS 10000
#define KEY_SIZE 4096		/* a receipt's key has at most 1,000 bytes */

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

void mark_route_release(struct mark_route *m)
{
	free(m->page);
	free(m->mark);
	*m = (struct mark_route){ 0 };
}

/* $1: the key after which the page begins. */
static void build_page(struct buf *b, const struct route *r)
{
	buf_addf(b, "SELECT p.strand_id, coalesce(p.long_id, p.strand_id), p.state FROM %s p"
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
	mark_route_release(m);
	return err_set(e, STRAND_ENOMEM, "out of memory");
}

static int mark_one(const struct mark_route *m, struct conn *c, const PGresult *page, int row,
		    struct mark_result *result, struct err *e)
{
	const char *state = PQgetvalue(page, row, 2);
	const char *values[] = { PQgetvalue(page, row, 0), PQgetvalue(page, row, 1), state,
				 !strcmp(state, "expired") ? "[\"error:timeout\"]" : "[\"error:processing_failed\"]" };
	PGresult *res;
	int ret = FAILPOINT("mark.before") ? err_set(e, STRAND_ECONN, "failpoint mark.before")
		: conn_query(c, m->mark, 4, values, clock_after_ms(MARK_TIMEOUT_MS), &res, e);

	if (ret) {
		result->left = true;
		return ret;
	}
	if (!strcmp(PQcmdTuples(res), "1"))
		result->marked++;
	else
		result->left = true;
	PQclear(res);
	return 0;
}

static int mark_page(const struct mark_route *m, struct conn *c, const struct stop *stop, char key[KEY_SIZE],
		     struct mark_result *result, bool *ret_more, struct err *e)
{
	const char *values[] = { key };
	PGresult *page;
	int first = 0, ret = conn_query(c, m->page, 1, values, clock_after_ms(MARK_TIMEOUT_MS), &page, e);

	if (ret)
		return ret;
	for (int i = 0; i < PQntuples(page) && conn_usable(c); i++) {
		struct err one;

		if (stop_level(stop) != STOP_NONE) {
			PQclear(page);
			return err_set(e, STRAND_ESTOPPED, "told to stop");
		}
		ret = mark_one(m, c, page, i, result, &one);
		if (ret && !first) {
			first = ret;
			*e = one;
		}
		if (ret == STRAND_ESQL && !strncmp(one.sqlstate, "42", 2))
			break;
	}
	*ret_more = PQntuples(page) > 0;
	if (*ret_more)
		snprintf(key, KEY_SIZE, "%s", PQgetvalue(page, PQntuples(page) - 1, 0));
	PQclear(page);
	return first;
}

int mark_route(struct mark_route *m, const struct route *r, struct conn *c, const struct stop *stop,
	       struct mark_result *ret_result, struct err *e)
{
	char key[KEY_SIZE] = "";
	bool more = true;
	int ret = prepare(m, r, c, e), first = ret;

	while (!ret && more) {
		struct err one;

		more = false;
		ret = mark_page(m, c, stop, key, ret_result, &more, &one);
		if (ret && !first) {
			first = ret;
			*e = one;
		}
		/* A strand that cannot be marked does not keep the others from it; a right
		 * that is missing does. */
		if (ret == STRAND_ESQL && more && strncmp(one.sqlstate, "42", 2))
			ret = 0;
	}
	return first;
}
