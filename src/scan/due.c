#include "scan/due.h"

#include <stdio.h>
#include <stdlib.h>

#include "base/buf.h"
#include "base/clock.h"
#include "base/log.h"
#include "scan/page.h"

#define ROOM_MS 100		/* without room, look again after this */
#define ALL_MS 200		/* all that is due is looked at no more often than this */
#define LOOK_MS 5000		/* what others wrote is looked for this often at least */
#define EVERYTHING "-infinity"

/* Read through the partial index (route, due_at).  $1: all that was due until then
 * has been offered. */
static const char look_sql[] =
	"SELECT l.suspended_at IS NOT NULL, coalesce(l.suspended_error, ''),"
	" (SELECT pg_catalog.ceil(extract(epoch FROM p.due_at - pg_catalog.clock_timestamp()) * 1000)::bigint FROM %s p"
	"   WHERE p.route = %d AND p.state IN ('running', 'retry') AND p.due_at > $1::timestamptz ORDER BY p.due_at LIMIT 1)"
	" FROM %s l WHERE %s";

/* A strand that cost a session goes alone again.  The strand's row is looked up by
 * its key: the way over jsonb takes the receipts' collation off the id, with which the
 * key's index could not be used. */
static const char page_sql[] =
	"SELECT p.id, coalesce((SELECT t.tags OPERATOR(pg_catalog.@>) '[\"priority:high\"]' FROM %s t WHERE t.id = p.id), false),"
	" p.alone, p.due_at FROM (SELECT p.due_at,"
	"   pg_catalog.to_jsonb(coalesce(p.long_id, p.strand_id)) OPERATOR(pg_catalog.#>>) '{}' AS id,"
	"   p.state = 'running' OR coalesce(p.sqlstate ~ '^(08|57P|57014)', false) AS alone"
	"  FROM %s p WHERE p.route = %d AND p.state IN ('running', 'retry') AND p.due_at > $1::timestamptz"
	"   AND p.due_at <= pg_catalog.statement_timestamp()"
	"  ORDER BY p.due_at FETCH FIRST %d ROWS WITH TIES) p";

static int64_t due_at(const struct scan_route *sr)
{
	/* relaxed: a time on its own; the event that comes with it orders the rest */
	return atomic_load_explicit(&sr->due_at, memory_order_relaxed);
}

bool due_is_now(const struct scan_route *sr, int64_t now)
{
	return due_next(sr) <= now;
}

int64_t due_next(const struct scan_route *sr)
{
	int64_t due = due_at(sr);

	return due < sr->look_at ? due : sr->look_at;
}

static void note_suspended(struct scanner *s, unsigned route, bool suspended, const char *why)
{
	struct suspensions *all = s->context->suspensions;
	const struct conf_route *conf = s->context->routes->routes[route].conf;
	const struct log_fields fields = { .route = conf->tag, .source = conf->source, .fold = LOG_FOLD_NEVER };

	if (suspended && suspension_begin(all, route, true))
		log_event(LOG_LEVEL_WARNING, &fields, "route suspended, as its row in the database says: %s", why);
	else if (!suspended && suspension_recorded(all, route) && suspension_end(all, route))
		log_event(LOG_LEVEL_INFO, &fields, "route resumed, as its row in the database says");
}

/* `*ret_ms`: until the next one is due, INT64_MAX when none is. */
static int look(struct scanner *s, unsigned route, int64_t *ret_ms, struct err *e)
{
	const struct route *r = &s->context->routes->routes[route];
	const char *values[] = { s->routes[route].due_from };
	struct buf sql = BUF_INIT;
	PGresult *res;
	int ret;

	buf_init(&sql);
	buf_addf(&sql, look_sql, r->receipts, r->number, r->routes, r->where);
	ret = sql.failed ? err_set(e, STRAND_ENOMEM, "out of memory")
		: conn_query(s->conn, sql.data, 1, values, clock_after_ms(PAGE_TIMEOUT_MS), &res, e);
	buf_release(&sql);
	if (ret)
		return ret;
	*ret_ms = INT64_MAX;
	if (PQntuples(res)) {
		note_suspended(s, route, *PQgetvalue(res, 0, 0) == 't', PQgetvalue(res, 0, 1));
		if (!PQgetisnull(res, 0, 2))
			*ret_ms = strtoll(PQgetvalue(res, 0, 2), NULL, 10);
	}
	PQclear(res);
	return 0;
}

/* STRAND_EFULL: not all of it found room. */
static int offer(struct scanner *s, unsigned route, const PGresult *page)
{
	struct scan_route *sr = &s->routes[route];

	for (int i = 0; i < PQntuples(page); i++) {
		unsigned flags = (*PQgetvalue(page, i, 1) == 't' ? QUEUE_HIGH : 0) |
				 (*PQgetvalue(page, i, 2) == 't' ? QUEUE_ALONE : 0);

		if (queue_offer(s->context->queues[route], route, PQgetvalue(page, i, 0), (size_t)PQgetlength(page, i, 0),
				flags) == QUEUE_FULL)
			return STRAND_EFULL;
		count(s->context, METRIC_SCAN_FOUND, route, 1);
	}
	if (PQntuples(page))
		snprintf(sr->due_from, sizeof(sr->due_from), "%s", PQgetvalue(page, PQntuples(page) - 1, 3));
	return 0;
}

static int take_page(struct scanner *s, unsigned route, struct err *e)
{
	const struct route *r = &s->context->routes->routes[route];
	const char *values[] = { s->routes[route].due_from };
	struct buf sql = BUF_INIT;
	PGresult *page;
	int ret;

	buf_init(&sql);
	buf_addf(&sql, page_sql, r->source, r->receipts, r->number, s->context->conf->scan_page);
	ret = sql.failed ? err_set(e, STRAND_ENOMEM, "out of memory")
		: conn_query(s->conn, sql.data, 1, values, clock_after_ms(PAGE_TIMEOUT_MS), &page, e);
	buf_release(&sql);
	if (ret)
		return ret;
	ret = offer(s, route, page);
	PQclear(page);
	return ret;
}

int due_serve(struct scanner *s, unsigned route, struct err *e)
{
	struct scan_route *sr = &s->routes[route];
	int64_t now = clock_now(), interval = s->context->conf->scan_interval_ms, ms = INT64_MAX;
	int ret;

	/* One that was written since may be due before those that were offered: its
	 * transaction may have taken long.  acquire: pairs with scanner_due */
	if (atomic_exchange_explicit(&sr->news, false, memory_order_acq_rel) &&
	    sr->looked_at + ALL_MS * NSEC_PER_MSEC < sr->look_at)
		sr->look_at = sr->looked_at + ALL_MS * NSEC_PER_MSEC;
	/* What was offered and is still not settled is offered again now and then, and what
	 * an instance left behind that died is not to wait for the next pass. */
	if (now >= sr->look_at) {
		snprintf(sr->due_from, sizeof(sr->due_from), EVERYTHING);
		sr->looked_at = now;
		sr->look_at = clock_after_ms(interval < LOOK_MS ? interval : LOOK_MS);
	}
	/* relaxed: a worker that sets a time from here on is heard next time */
	atomic_store_explicit(&sr->due_at, INT64_MAX, memory_order_relaxed);
	ret = look(s, route, &ms, e);
	while (!ret && ms <= 0) {
		ret = take_page(s, route, e);
		if (ret == STRAND_EFULL)
			ms = suspension_on(s->context->suspensions, route) ? SUSPENDED_MS : ROOM_MS;
		else if (!ret)
			ret = look(s, route, &ms, e);
	}
	if (ms != INT64_MAX)
		scanner_wake_at(s, route, ms > 0 ? ms : ROOM_MS);
	return ret == STRAND_EFULL ? 0 : ret;
}
