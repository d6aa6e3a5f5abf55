#include "scan/pass.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "base/clock.h"
#include "scan/page.h"
#include "scan/urgent.h"

#define PAGES_A_TURN 8		/* then the other routes' turn */
#define RECORD_TIMEOUT_MS 2000	/* it is only a hint, and may stand between us and a stop */

static int query_text(struct scanner *s, const char *sql, PGresult **ret_result, struct err *e)
{
	return conn_query(s->conn, sql, 0, NULL, clock_after_ms(PAGE_TIMEOUT_MS), ret_result, e);
}

int pass_take_snapshot(struct scanner *s, struct snapshot *ret, struct err *e)
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
	int ret = pass_take_snapshot(s, &now, e);

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
	if (sr->full)
		urgent_begin(sr, &now);
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

	if (sr->pending && queue_epoch_over(s->context->queues[route], route)) {
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
	if (!sr->pending && queue_epoch_begin(s->context->queues[route], route))
		sr->pending = sr->since.xmin;
	count(s->context, METRIC_SCAN_PASSES, route, 1);
}

int pass_run(struct scanner *s, unsigned route, struct err *e)
{
	struct scan_route *sr = &s->routes[route];
	unsigned pages = 0;
	bool urgent;
	int ret = page_prepare(s, route, e);

	if (!ret && !sr->running)
		ret = begin(s, route, e);
	if (!ret)
		ret = urgent_look(s, route, e);
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
			ret = queue_has_room(s->context->queues[route], route, sr->pass.high ? QUEUE_HIGH : 0) ?
				page_take(s, route, e) : STRAND_EFULL;
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
	char position[24], before[24], attached[24];
	const char *values[] = { position, before, attached };
	struct buf sql = BUF_INIT;
	PGresult *res;
	int ret;

	note_settled(s, route);
	/* A database where others write moves on without us: no news, no writing. */
	if (!sr->seen || sr->settled <= sr->position || sr->position >= sr->read_to)
		return 0;
	snprintf(position, sizeof(position), "%" PRIu64, sr->settled);
	snprintf(before, sizeof(before), "%" PRIu64, sr->position);
	snprintf(attached, sizeof(attached), "%" PRId64, sr->attached_at);
	buf_init(&sql);
	/* Only from the value, and in the attachment, that this thread knows: another
	 * one was set by an operator, or by another instance, and is read by the next
	 * pass.  A row that somebody holds is for the next time. */
	buf_addf(&sql, "UPDATE %s u SET position = $1::pg_catalog.xid8 WHERE u.route = (SELECT l.route FROM %s l"
		 " WHERE %s AND l.position = $2::pg_catalog.xid8"
		 " AND (extract(epoch FROM l.attached_at) * 1000000)::bigint = $3::bigint"
		 " FOR NO KEY UPDATE SKIP LOCKED)",
		 r->routes, r->routes, r->where);
	ret = sql.failed ? err_set(e, STRAND_ENOMEM, "out of memory")
		: conn_query(s->conn, sql.data, 3, values, clock_after_ms(RECORD_TIMEOUT_MS), &res, e);
	buf_release(&sql);
	if (ret)
		return ret;
	if (!strcmp(PQcmdTuples(res), "1"))
		sr->position = sr->settled;
	PQclear(res);
	sr->recorded_at = clock_now();
	return 0;
}
