/* What a listener may have missed.
 *
 * In a table that strandd has attached each row bears the number of the transaction
 * that tagged it.  Whatever can become visible after a snapshot was written by a
 * transaction at or above its xmax, or in its list of those in progress.  So a look
 * reads these, up to the xmax of a snapshot of its own, from which the next one goes on.
 * In other tables it reads by time, a while back.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "base/clock.h"
#include "libstrand/listener.h"

/* How long a transaction may take whose strands are looked for by time. */
#define OVERLAP "60 s"

void position_release(struct position *p)
{
	free(p->snapshot);
	free(p->time);
	*p = (struct position){ 0 };
}

int catchup_begin(struct strand_listener *l)
{
	const char *values[] = { l->base.time };

	catchup_break_off(l);
	l->missed = false;
	return session_sent(l, PHASE_SNAPSHOT,
			    link_send(&l->link, "SELECT pg_catalog.pg_current_snapshot(), pg_catalog.now(),"
				      " $1::pg_catalog.timestamptz OPERATOR(pg_catalog.-) '" OVERLAP "'::pg_catalog.interval",
				      1, values, &l->err));
}

void catchup_break_off(struct strand_listener *l)
{
	struct pass *p = &l->pass;

	snapshot_release(&p->since);
	snapshot_release(&p->now);
	position_release(&p->end);
	free(p->since_time);
	*p = (struct pass){ 0 };
}

/* From here on the next look goes on. */
static void end_pass(struct strand_listener *l)
{
	position_release(&l->base);
	l->base = l->pass.end;
	l->pass.end = (struct position){ 0 };
	catchup_break_off(l);
	l->look_at = clock_after_ms(l->interval_ms);
}

static int begin_pass(struct strand_listener *l, const PGresult *res)
{
	struct pass *p = &l->pass;

	p->end.snapshot = strdup(PQgetvalue(res, 0, 0));
	p->end.time = strdup(PQgetvalue(res, 0, 1));
	if (!p->end.snapshot || !p->end.time)
		return STRAND_ENOMEM;
	if (!l->base.snapshot) {
		/* The first time: from now on. */
		end_pass(l);
		return 0;
	}
	p->since_time = strdup(PQgetvalue(res, 0, 2));
	if (!p->since_time)
		return STRAND_ENOMEM;
	p->active = true;
	if (snapshot_parse(&p->since, l->base.snapshot) || snapshot_parse(&p->now, p->end.snapshot))
		return STRAND_ENOMEM;
	return 0;
}

int catchup_take_snapshot(struct strand_listener *l)
{
	PGresult *res;
	int ret = link_take(&l->link, &res, &l->err);

	if (ret)
		return ret;
	l->phase = PHASE_IDLE;
	ret = begin_pass(l, res);
	PQclear(res);
	return ret ? err_set(&l->err, ret, "out of memory") : 0;
}

static const struct table *table_of(const struct strand_listener *l, size_t route)
{
	return &l->sources[l->routes[route].source].table;
}

/* The transactions of one that was in progress, or of all that have begun since. */
static bool next_xids(struct pass *p)
{
	while (p->range < p->since.n) {
		uint64_t xid = p->since.xip[p->range++];

		if (snapshot_in_progress(&p->now, xid))
			continue;
		snprintf(p->from, sizeof(p->from), "%" PRIu64, xid);
		snprintf(p->to, sizeof(p->to), "%" PRIu64, xid + 1);
		return true;
	}
	if (p->range++ > p->since.n)
		return false;
	snprintf(p->from, sizeof(p->from), "%" PRIu64, p->since.xmax);
	snprintf(p->to, sizeof(p->to), "%" PRIu64, p->now.xmax);
	return p->since.xmax < p->now.xmax;
}

static bool next_range_of(struct pass *p, const struct table *t)
{
	if (t->has_xact_id) {
		p->hash = INT64_MIN;
		return next_xids(p);
	}
	if (p->range++ || !t->tells_time)
		return false;
	p->hash = 0;
	snprintf(p->from, sizeof(p->from), "%s", p->since_time);
	snprintf(p->to, sizeof(p->to), "%s", "");
	return true;
}

static bool next_range(struct strand_listener *l)
{
	struct pass *p = &l->pass;

	for (; p->route < l->n_routes; p->route++, p->range = 0)
		if (next_range_of(p, table_of(l, p->route)))
			return true;
	return false;
}

/* A page is bounded by the rows that it reads, not by those that it finds, so that no
 * statement is long; ties share a page, because the place of the next one need not be
 * unique.  The last row has no id: it tells how far the page went. */
static void page_sql(struct buf *sql, const struct table *t)
{
	if (t->has_xact_id)
		buf_addf(sql, "WITH page AS MATERIALIZED (SELECT s.id, s.xact_id AS x, pg_catalog.hashtextextended(s.id, 0) AS h,"
			 "  coalesce(s.tags @> $4::pg_catalog.jsonb, false) AS bears FROM %s s"
			 "  WHERE (s.xact_id, pg_catalog.hashtextextended(s.id, 0)) >= ($1::pg_catalog.xid8, $2::pg_catalog.int8)"
			 "   AND s.xact_id < $3::pg_catalog.xid8"
			 "  ORDER BY s.xact_id, pg_catalog.hashtextextended(s.id, 0) FETCH FIRST %d ROWS WITH TIES)",
			 t->sql, PAGE_ROWS);
	else
		buf_addf(sql, "WITH page AS MATERIALIZED (SELECT s.id, s.created_at AS x, 0::pg_catalog.int8 AS h,"
			 "  coalesce(s.tags @> $4::pg_catalog.jsonb, false) AS bears FROM %s s"
			 "  WHERE s.created_at >= $1::pg_catalog.timestamptz"
			 "   AND (s.created_at > $1::pg_catalog.timestamptz OR $2::pg_catalog.int8 = 0) AND $3::text IS NOT NULL"
			 "  ORDER BY s.created_at FETCH FIRST %d ROWS WITH TIES)", t->sql, PAGE_ROWS);
	buf_adds(sql, " SELECT p.id, NULL, NULL, NULL FROM page p WHERE p.bears UNION ALL"
		 " (SELECT NULL, p.x::text, p.h::text, (SELECT pg_catalog.count(*) FROM page)::text"
		 "  FROM page p ORDER BY p.x DESC, p.h DESC LIMIT 1)");
}

int catchup_next_page(struct strand_listener *l)
{
	struct pass *p = &l->pass;
	struct buf sql = BUF_INIT;
	char hash[24];
	const char *values[] = { p->from, hash, p->to, NULL };
	int ret;

	if (!p->in_range && !next_range(l)) {
		end_pass(l);
		return 0;
	}
	p->in_range = true;
	values[3] = l->routes[p->route].tags;
	snprintf(hash, sizeof(hash), "%" PRId64, p->hash);
	page_sql(&sql, table_of(l, p->route));
	ret = sql.failed ? err_set(&l->err, STRAND_ENOMEM, "out of memory")
		: link_send(&l->link, sql.data, 4, values, &l->err);
	buf_release(&sql);
	return session_sent(l, PHASE_PAGE, ret);
}

/* After the page's last row, or to the next range when it was the last page. */
static void move_on(struct pass *p, const PGresult *res, int last)
{
	uint64_t xid;
	int64_t hash;

	if (last < 0 || strtoll(PQgetvalue(res, last, 3), NULL, 10) < PAGE_ROWS) {
		p->in_range = false;
		return;
	}
	snprintf(p->from, sizeof(p->from), "%s", PQgetvalue(res, last, 1));
	hash = strtoll(PQgetvalue(res, last, 2), NULL, 10);
	if (hash < INT64_MAX) {
		p->hash = hash + 1;
		return;
	}
	/* The last place of its transaction. */
	xid = strtoull(PQgetvalue(res, last, 1), NULL, 10);
	snprintf(p->from, sizeof(p->from), "%" PRIu64, xid + 1);
	p->hash = INT64_MIN;
}

int catchup_take_page(struct strand_listener *l)
{
	PGresult *res;
	int last, ret = link_take(&l->link, &res, &l->err);

	if (ret)
		return ret;
	l->phase = PHASE_IDLE;
	last = PQntuples(res) - 1;
	for (int i = 0; ret >= 0 && i < last; i++)
		ret = session_offer(l, (unsigned)l->pass.route, PQgetvalue(res, i, 0), false);
	if (ret >= 0)
		move_on(&l->pass, res, last);
	PQclear(res);
	return ret < 0 ? err_set(&l->err, ret, "out of memory") : 0;
}
