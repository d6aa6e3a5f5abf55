#include "scan/pass.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "base/clock.h"
#include "base/failpoint.h"

#define PAGE_TIMEOUT_MS 60000
#define ROOM_MS 1000

/* Half-open: xact_id from `from` up to below `to`. */
struct range {
	uint64_t from, to;
};

/* A page is bounded by the rows that it reads, not by those that it finds, so
 * that no statement is long; ties share a page because the key (xact_id, hash of
 * the id) need not be unique.  (The id itself may be too long for an index.)
 * The last row of the answer has no id: it tells how far the page went. */
static void build_page(struct buf *b, const struct route *r, int rows, bool high)
{
	buf_addf(b,
		 "WITH page AS MATERIALIZED (SELECT t.xact_id, pg_catalog.hashtextextended(t.id, 0) AS h, t.id,"
		 "  coalesce(t.tags OPERATOR(pg_catalog.@>) %s, false) AS bears,"
		 "  coalesce(t.tags OPERATOR(pg_catalog.@>) '[\"priority:high\"]', false) AS high FROM %s t"
		 "  WHERE (t.xact_id, pg_catalog.hashtextextended(t.id, 0)) >= ($1::pg_catalog.xid8, $2::bigint)"
		 "   AND t.xact_id < $3::pg_catalog.xid8%s"
		 "  ORDER BY t.xact_id, pg_catalog.hashtextextended(t.id, 0) FETCH FIRST %d ROWS WITH TIES)"
		 " SELECT p.xact_id, p.h, p.id, p.high, 0 FROM page p,"
		 "  (SELECT r.history FROM %s r WHERE r.route = %d AND r.detached_at IS NULL) l"
		 "  WHERE p.bears AND (l.history IS NULL OR NOT pg_catalog.pg_visible_in_snapshot(p.xact_id, l.history))"
		 "   AND (SELECT c.state FROM %s c WHERE c.route = %d"
		 "    AND c.strand_id = strandd.receipt_key(p.id) COLLATE \"C\") IS NULL"
		 " UNION ALL (SELECT p.xact_id, p.h, NULL, NULL, (SELECT count(*) FROM page)"
		 "  FROM page p ORDER BY p.xact_id DESC, p.h DESC LIMIT 1)",
		 r->tag_array, r->source, high ? " AND t.tags OPERATOR(pg_catalog.@>) '[\"priority:high\"]'" : "",
		 rows, r->routes, r->number, r->receipts, r->number);
}

static void page_name(char name[24], unsigned route, bool high)
{
	snprintf(name, 24, "%s_%u", high ? "high" : "page", route);
}

static int prepare(struct scanner *s, unsigned route, struct err *e)
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
	return ret;
}

/* A found strand is never dropped: the pass waits for room. */
static int offer(struct scanner *s, unsigned route, const char *id, size_t len, bool high)
{
	const struct context *x = s->context;
	size_t room = (size_t)x->conf->queue_limit / 2;

	while (queue_offer(x->queue, route, id, len, high) == QUEUE_FULL) {
		if (stop_level(x->stop) != STOP_NONE)
			return STRAND_ESTOPPED;
		(void)!queue_wait_room(x->queue, room, clock_after_ms(ROOM_MS), x->stop->drain.fd);
	}
	return stop_level(x->stop) == STOP_NONE ? 0 : STRAND_ESTOPPED;
}

static int read_page(struct scanner *s, unsigned route, bool high, struct range at, int64_t hash,
		     PGresult **ret_page, struct err *e)
{
	char name[24], from[24], to[24], h[24];
	const char *values[] = { from, h, to };
	int ret;

	page_name(name, route, high);
	snprintf(from, sizeof(from), "%" PRIu64, at.from);
	snprintf(to, sizeof(to), "%" PRIu64, at.to);
	snprintf(h, sizeof(h), "%" PRId64, hash);
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

static int offer_page(struct scanner *s, unsigned route, const PGresult *page)
{
	const struct context *x = s->context;
	int last = PQntuples(page) - 1, ret = 0;

	for (int i = 0; !ret && i < last; i++)
		ret = offer(s, route, PQgetvalue(page, i, 2), (size_t)PQgetlength(page, i, 2),
			    *PQgetvalue(page, i, 3) == 't');
	count(x, METRIC_SCAN_FOUND, route, (uint64_t)last);
	count(x, METRIC_SCAN_ROWS, route, strtoull(PQgetvalue(page, last, 4), NULL, 10));
	s->routes[route].rows += strtoull(PQgetvalue(page, last, 4), NULL, 10);
	return ret;
}

static int read_range(struct scanner *s, unsigned route, bool high, struct range at, struct err *e)
{
	int64_t hash = INT64_MIN;
	int ret = 0;

	while (!ret && at.from < at.to) {
		PGresult *page = NULL;
		ret = read_page(s, route, high, at, hash, &page, e);
		if (ret || !PQntuples(page)) {
			PQclear(page);
			return ret;
		}
		int last = PQntuples(page) - 1;
		ret = offer_page(s, route, page);
		at.from = strtoull(PQgetvalue(page, last, 0), NULL, 10);
		hash = strtoll(PQgetvalue(page, last, 1), NULL, 10);
		if (hash == INT64_MAX)
			at.from++;
		hash = hash == INT64_MAX ? INT64_MIN : hash + 1;
		if (strtoll(PQgetvalue(page, last, 4), NULL, 10) < s->context->conf->scan_page)
			at.from = at.to;
		PQclear(page);
		if (FAILPOINT("scan.page"))
			continue;
	}
	return ret;
}

static int query_text(struct scanner *s, const char *sql, PGresult **ret_result, struct err *e)
{
	return conn_query(s->conn, sql, 0, NULL, clock_after_ms(PAGE_TIMEOUT_MS), ret_result, e);
}

static int take_snapshot(struct scanner *s, struct snapshot *ret, struct err *e)
{
	PGresult *res;
	int code = query_text(s, "SELECT pg_catalog.pg_current_snapshot()", &res, e);

	if (code)
		return code;
	if (snapshot_parse(ret, PQgetvalue(res, 0, 0)))
		code = err_set(e, STRAND_EPROTO, "the server's snapshot is not understood: %.100s",
			       PQgetvalue(res, 0, 0));
	PQclear(res);
	return code;
}

static int read_position(struct scanner *s, unsigned route, uint64_t *ret, struct err *e)
{
	const struct route *r = &s->context->routes->routes[route];
	struct buf sql = BUF_INIT;
	PGresult *res;
	int code;

	buf_init(&sql);
	buf_addf(&sql, "SELECT r.position FROM %s r WHERE r.route = %d", r->routes, r->number);
	code = sql.failed ? err_set(e, STRAND_ENOMEM, "out of memory") : query_text(s, sql.data, &res, e);
	buf_release(&sql);
	if (code)
		return code;
	*ret = PQntuples(res) ? strtoull(PQgetvalue(res, 0, 0), NULL, 10) : 0;
	PQclear(res);
	return 0;
}

/* From the recorded position, what is urgent first. */
static int read_all(struct scanner *s, unsigned route, const struct snapshot *now, struct err *e)
{
	struct range at = { .to = now->xmax };
	int ret = read_position(s, route, &at.from, e);

	if (!ret)
		ret = read_range(s, route, true, at, e);
	return ret ? ret : read_range(s, route, false, at, e);
}

/* What could still commit when the last pass began, and has since ended; what
 * has not is in the list of this pass too. */
static int read_news(struct scanner *s, unsigned route, const struct snapshot *now, struct err *e)
{
	const struct snapshot *since = &s->routes[route].since;
	int ret = 0;

	for (size_t i = 0; !ret && i < since->n; i++) {
		uint64_t xid = since->xip[i];
		if (!snapshot_in_progress(now, xid))
			ret = read_range(s, route, false, (struct range){ xid, xid + 1 }, e);
	}
	return ret ? ret : read_range(s, route, false, (struct range){ since->xmax, now->xmax }, e);
}

int pass_run(struct scanner *s, unsigned route, struct err *e)
{
	struct scan_route *sr = &s->routes[route];
	struct snapshot now = { 0 };
	int ret = prepare(s, route, e);

	if (!ret)
		ret = take_snapshot(s, &now, e);
	if (!ret)
		ret = sr->full || !sr->seen ? read_all(s, route, &now, e) : read_news(s, route, &now, e);
	if (ret) {
		snapshot_release(&now);
		return ret;
	}
	snapshot_release(&sr->since);
	sr->since = now;
	sr->seen = true;
	sr->full = false;
	count(s->context, METRIC_SCAN_PASSES, route, 1);
	return 0;
}

int pass_record_position(struct scanner *s, unsigned route, struct err *e)
{
	struct scan_route *sr = &s->routes[route];
	const struct route *r = &s->context->routes->routes[route];
	char position[24];
	const char *values[] = { position };
	struct buf sql = BUF_INIT;
	int ret;

	if (!sr->seen || !sr->rows || sr->since.xmin <= sr->recorded ||
	    queue_in_flight_on(s->context->queue, route))
		return 0;
	snprintf(position, sizeof(position), "%" PRIu64, sr->since.xmin);
	buf_init(&sql);
	buf_addf(&sql, "UPDATE %s SET position = $1::pg_catalog.xid8 WHERE route = %d"
		 " AND position < $1::pg_catalog.xid8 AND detached_at IS NULL", r->routes, r->number);
	ret = sql.failed ? err_set(e, STRAND_ENOMEM, "out of memory")
		: conn_query(s->conn, sql.data, 1, values, clock_after_ms(PAGE_TIMEOUT_MS), NULL, e);
	buf_release(&sql);
	if (ret)
		return ret;
	sr->recorded = sr->since.xmin;
	sr->rows = 0;
	sr->recorded_at = clock_now();
	return 0;
}
