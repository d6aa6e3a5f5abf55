#include "scan/pass.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "base/clock.h"
#include "base/failpoint.h"

#define PAGE_TIMEOUT_MS 60000
#define PAGES_A_TURN 8		/* then the other routes' turn */
#define RECORD_TIMEOUT_MS 2000	/* it is only a hint, and may stand between us and a stop */

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
		 r->routes, r->where, r->tag_array, r->source, high ? " AND t.tags OPERATOR(pg_catalog.@>) '[\"priority:high\"]'" : "",
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
		if (queue_offer(x->queue, route, PQgetvalue(page, i, 0), (size_t)PQgetlength(page, i, 0),
				*PQgetvalue(page, i, 1) == 't') == QUEUE_FULL)
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

static int one_page(struct scanner *s, unsigned route, struct err *e)
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

/* STRAND_ENOENT, without text, when the route is not attached (any more). */
static int read_position(struct scanner *s, unsigned route, uint64_t *ret, int64_t *ret_attached_at,
			 struct err *e)
{
	const struct route *r = &s->context->routes->routes[route];
	struct buf sql = BUF_INIT;
	PGresult *res;
	int code;

	buf_init(&sql);
	buf_addf(&sql, "SELECT l.position, (extract(epoch FROM l.attached_at) * 1000000)::bigint FROM %s l"
		 " WHERE %s", r->routes, r->where);
	code = sql.failed ? err_set(e, STRAND_ENOMEM, "out of memory") : query_text(s, sql.data, &res, e);
	buf_release(&sql);
	if (code)
		return code;
	if (PQntuples(res)) {
		*ret = strtoull(PQgetvalue(res, 0, 0), NULL, 10);
		*ret_attached_at = strtoll(PQgetvalue(res, 0, 1), NULL, 10);
	} else {
		code = STRAND_ENOENT;
	}
	PQclear(res);
	return code;
}

static void set_range(struct scan_pass *p, uint64_t from, uint64_t to)
{
	p->from = from;
	p->to = to;
	p->hash = INT64_MIN;
}

/* A full pass begins at the recorded position, with what is urgent; the others
 * with the transactions that the last pass found in progress. */
static int begin(struct scanner *s, unsigned route, struct err *e)
{
	struct scan_route *sr = &s->routes[route];
	struct snapshot now = { 0 };
	uint64_t position = 0;
	int64_t attached_at = 0;
	int ret = take_snapshot(s, &now, e);

	if (!ret)
		ret = read_position(s, route, &position, &attached_at, e);
	if (ret) {
		snapshot_release(&now);
		return ret;
	}
	/* Lowered by an operator who wants delivered what was there already, or
	 * attached anew: what was judged in between was judged as detached. */
	if (!sr->seen || position < sr->position || attached_at != sr->attached_at)
		sr->full = true;
	sr->attached_at = attached_at;
	/* What was known to be settled said nothing about what is asked for now. */
	if (sr->full)
		sr->settled = sr->pending = 0;
	sr->position = position;
	sr->pass = (struct scan_pass){ .now = now, .high = sr->full };
	set_range(&sr->pass, sr->full ? position : 0, sr->full ? now.xmax : 0);
	sr->running = true;
	return 0;
}

/* The range after the one that was read; false when there is none.  What could
 * still commit when the last pass began and has since ended is a range of its
 * own; what has not ended is in the list of this pass too. */
static bool next_range(struct scan_route *sr)
{
	struct scan_pass *p = &sr->pass;
	bool news = !sr->full && p->next_xip <= sr->since.n;

	if (sr->full && p->high) {
		p->high = false;
		set_range(p, sr->position, p->now.xmax);
		return true;
	}
	while (news && p->next_xip < sr->since.n) {
		uint64_t xid = sr->since.xip[p->next_xip++];
		if (snapshot_in_progress(&p->now, xid))
			continue;
		set_range(p, xid, xid + 1);
		return true;
	}
	if (news) {
		p->next_xip++;
		set_range(p, sr->since.xmax, p->now.xmax);
	}
	return news;
}

static void note_settled(struct scanner *s, unsigned route)
{
	struct scan_route *sr = &s->routes[route];

	if (sr->pending && queue_epoch_over(s->context->queue, route)) {
		sr->settled = sr->pending;
		sr->pending = 0;
	}
}

static void end(struct scanner *s, unsigned route)
{
	struct scan_route *sr = &s->routes[route];

	snapshot_release(&sr->since);
	sr->since = sr->pass.now;
	sr->pass = (struct scan_pass){ 0 };
	sr->running = false;
	sr->seen = true;
	sr->full = false;
	note_settled(s, route);
	if (!sr->pending && queue_epoch_begin(s->context->queue, route))
		sr->pending = sr->since.xmin;
	count(s->context, METRIC_SCAN_PASSES, route, 1);
}

int pass_run(struct scanner *s, unsigned route, struct err *e)
{
	struct scan_route *sr = &s->routes[route];
	unsigned pages = 0;
	bool urgent;
	int ret = prepare(s, route, e);

	if (!ret && !sr->running)
		ret = begin(s, route, e);
	urgent = sr->pass.high;
	if (ret == STRAND_ENOENT) {
		/* Detached: if it is attached again, it starts anew. */
		sr->seen = false;
		return 0;
	}
	while (!ret && sr->running) {
		if (stop_level(s->context->stop) != STOP_NONE)
			return err_set(e, STRAND_ESTOPPED, "told to stop");
		if (sr->pass.from < sr->pass.to) {
			if (pages++ == PAGES_A_TURN)
				break;
			ret = queue_has_room(s->context->queue, route) ? one_page(s, route, e) : STRAND_EFULL;
		} else if (!next_range(sr)) {
			end(s, route);
		} else if (urgent) {
			break;	/* the urgent strands of the others come before our normal ones */
		}
	}
	return ret;
}

void pass_abandon(struct scanner *s, unsigned route)
{
	struct scan_route *sr = &s->routes[route];

	snapshot_release(&sr->pass.now);
	sr->pass = (struct scan_pass){ 0 };
	sr->running = false;
}

int pass_record_position(struct scanner *s, unsigned route, struct err *e)
{
	struct scan_route *sr = &s->routes[route];
	const struct route *r = &s->context->routes->routes[route];
	char position[24], before[24];
	const char *values[] = { position, before };
	struct buf sql = BUF_INIT;
	PGresult *res;
	int ret;

	note_settled(s, route);
	/* A database where others write moves on without us: no news, no writing. */
	if (!sr->seen || sr->settled <= sr->position || sr->position >= sr->read_to)
		return 0;
	snprintf(position, sizeof(position), "%" PRIu64, sr->settled);
	snprintf(before, sizeof(before), "%" PRIu64, sr->position);
	buf_init(&sql);
	/* Only from the value that this thread knows: another one was set by an
	 * operator, or by another instance, and is read by the next pass.  A row that
	 * somebody holds is for the next time. */
	buf_addf(&sql, "UPDATE %s u SET position = $1::pg_catalog.xid8 WHERE u.route = (SELECT l.route FROM %s l"
		 " WHERE %s AND l.position = $2::pg_catalog.xid8 FOR NO KEY UPDATE SKIP LOCKED)",
		 r->routes, r->routes, r->where);
	ret = sql.failed ? err_set(e, STRAND_ENOMEM, "out of memory")
		: conn_query(s->conn, sql.data, 2, values, clock_after_ms(RECORD_TIMEOUT_MS), &res, e);
	buf_release(&sql);
	if (ret)
		return ret;
	if (!strcmp(PQcmdTuples(res), "1"))
		sr->position = sr->settled;
	PQclear(res);
	sr->recorded_at = clock_now();
	return 0;
}
