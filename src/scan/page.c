#include "scan/page.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/buf.h"
#include "base/clock.h"
#include "base/failpoint.h"

/* A page is bounded by the rows that it reads, not by those that it finds, so
 * that no statement is long; ties share a page because the key (xact_id, hash of
 * the id) need not be unique.  (The id itself may be too long for an index.)
 * The last row of the answer has no id: it tells how far the page went, and how
 * many rows it read. */
static void build_page(struct buf *b, const struct route *r, int rows, bool high)
{
	buf_addf(b,
		 "WITH live AS MATERIALIZED (SELECT l.history FROM %s l WHERE %s),"
		 " page AS MATERIALIZED (SELECT t.xact_id, pg_catalog.hashtextextended(t.id, 0) AS h, t.id,"
		 "  coalesce(t.tags OPERATOR(pg_catalog.@>) %s, false) AS bears,"
		 "  coalesce(t.tags OPERATOR(pg_catalog.@>) '[\"priority:high\"]', false) AS high FROM %s t"
		 "  WHERE (t.xact_id, pg_catalog.hashtextextended(t.id, 0)) >= ($1::pg_catalog.xid8, $2::bigint)"
		 "   AND t.xact_id < $3::pg_catalog.xid8%s"
		 "  ORDER BY t.xact_id, pg_catalog.hashtextextended(t.id, 0) FETCH FIRST %d ROWS WITH TIES)"
		 " SELECT p.id, p.high, NULL, NULL, NULL FROM page p, live l"
		 "  WHERE p.bears AND (l.history IS NULL OR NOT pg_catalog.pg_visible_in_snapshot(p.xact_id, l.history))"
		 "   AND (SELECT c.state FROM %s c WHERE c.route = %d"
		 "    AND c.strand_id = strandd.receipt_key(p.id) COLLATE \"C\") IS NULL"
		 " UNION ALL (SELECT NULL, NULL, p.xact_id, p.h, (SELECT count(*) FROM page)"
		 "  FROM page p ORDER BY p.xact_id DESC, p.h DESC LIMIT 1)",
		 r->routes, r->where, r->tag_array, r->source,
		 high ? " AND t.tags OPERATOR(pg_catalog.@>) '[\"priority:high\"]'" : "",
		 rows, r->receipts, r->number);
}

static void page_name(char name[24], unsigned route, bool high)
{
	snprintf(name, 24, "%s_%u", high ? "high" : "page", route);
}

/* A name that was prepared before another one failed must not stand in the way
 * of the next attempt. */
static int forget_prepared(struct scanner *s, int ret, struct err *e)
{
	struct err lost;

	for (size_t i = 0; i < s->context->routes->n; i++)
		s->routes[i].prepared = false;
	if (!conn_query(s->conn, "DEALLOCATE ALL", 0, NULL, clock_after_ms(PAGE_TIMEOUT_MS), NULL, &lost))
		return ret;
	*e = lost;
	return STRAND_ECONN;
}

int page_prepare(struct scanner *s, unsigned route, struct err *e)
{
	const struct context *x = s->context;
	int ret = 0;

	for (int high = 0; !ret && high < 2 && !s->routes[route].prepared; high++) {
		char name[24];
		struct buf sql = BUF_INIT;
		buf_init(&sql);
		build_page(&sql, &x->routes->routes[route], x->conf->scan_page, high);
		page_name(name, route, high);
		ret = sql.failed ? err_set(e, STRAND_ENOMEM, "out of memory")
			: conn_prepare(s->conn, name, sql.data, clock_after_ms(PAGE_TIMEOUT_MS), e);
		buf_release(&sql);
	}
	s->routes[route].prepared = !ret;
	if (ret == STRAND_ESQL)
		ret = forget_prepared(s, ret, e);
	return ret;
}

static int read_page(struct scanner *s, unsigned route, PGresult **ret_page, struct err *e)
{
	const struct scan_pass *p = &s->routes[route].pass;
	char name[24], from[24], to[24], h[24];
	const char *values[] = { from, h, to };
	int ret;

	page_name(name, route, p->high);
	snprintf(from, sizeof(from), "%" PRIu64, p->from);
	snprintf(to, sizeof(to), "%" PRIu64, p->to);
	snprintf(h, sizeof(h), "%" PRId64, p->hash);
	ret = conn_pipeline_enter(s->conn, e);
	if (!ret)
		ret = conn_send_prepared(s->conn, name, 3, values, e);
	if (!ret)
		ret = conn_sync(s->conn, e);
	if (!ret)
		ret = conn_fetch(s->conn, clock_after_ms(PAGE_TIMEOUT_MS), ret_page, e);
	if (conn_usable(s->conn)) {
		int end = conn_fetch_sync(s->conn, clock_after_ms(PAGE_TIMEOUT_MS), ret ? NULL : e);
		if (conn_usable(s->conn))
			end = conn_pipeline_leave(s->conn, ret ? NULL : e);
		if (!ret && end) {
			PQclear(*ret_page);
			ret = end;
		}
	}
	return ret;
}

/* A found strand is never dropped: without room the same page is read again
 * later.  Those of it that were queued are duplicates then. */
static int offer_page(struct scanner *s, unsigned route, const PGresult *page)
{
	const struct context *x = s->context;
	int last = PQntuples(page) - 1;

	for (int i = 0; i < last; i++)
		if (queue_offer(x->queues[route], route, PQgetvalue(page, i, 0), (size_t)PQgetlength(page, i, 0),
				*PQgetvalue(page, i, 1) == 't' ? QUEUE_HIGH : 0) == QUEUE_FULL)
			return STRAND_EFULL;
	count(x, METRIC_SCAN_FOUND, route, (uint64_t)last);
	return 0;
}

/* After the page's last row, or past the range when the page was the last one. */
static void move_on(struct scanner *s, unsigned route, const PGresult *page)
{
	struct scan_pass *p = &s->routes[route].pass;
	int last = PQntuples(page) - 1;
	int64_t hash;

	if (last < 0 || strtoll(PQgetvalue(page, last, 4), NULL, 10) < s->context->conf->scan_page) {
		p->from = p->to;
		return;
	}
	p->from = strtoull(PQgetvalue(page, last, 2), NULL, 10);
	hash = strtoll(PQgetvalue(page, last, 3), NULL, 10);
	p->from += hash == INT64_MAX;
	p->hash = hash == INT64_MAX ? INT64_MIN : hash + 1;
}

int page_take(struct scanner *s, unsigned route, struct err *e)
{
	PGresult *page = NULL;
	int ret = read_page(s, route, &page, e);

	if (ret)
		return ret;
	if (PQntuples(page)) {
		uint64_t rows = strtoull(PQgetvalue(page, PQntuples(page) - 1, 4), NULL, 10);
		count(s->context, METRIC_SCAN_ROWS, route, rows);
		if (rows)
			s->routes[route].read_to = s->routes[route].pass.now.xmax;
		ret = offer_page(s, route, page);
	}
	if (!ret)
		move_on(s, route, page);
	if (PQntuples(page))
		(void)FAILPOINT("scan.page");
	PQclear(page);
	return ret;
}
