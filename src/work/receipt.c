#include "work/receipt.h"

/* Full jitter: anything between at once and the backoff.  A strand that expires
 * before that is due is looked at when it does; never earlier than at once, whatever
 * its tagged_at. */
static void build_verdict(struct buf *b, const struct route *r)
{
	const struct conf_route *c = r->conf;

	buf_addf(b,
		 ", verdict AS MATERIALIZED (SELECT n.attempt, n.at, CASE WHEN n.attempt < %d AND NOT $6::boolean AND $4 <> '" SQLSTATE_FINAL "'"
		 "  THEN n.at + pg_catalog.make_interval(secs => greatest(0, least(pg_catalog.random()"
		 "    * least(%lld, %lld * pg_catalog.power(%.17g::float8, least(n.attempt - 1, 60))) / 1000,"
		 "   (SELECT coalesce((strandd.timeouts(t.tags))[1], %s) - " AGE_OF("t.tagged_at", "n.at") " FROM %s t"
		 "     WHERE t.id = $1)))) END AS due_at FROM now n)",
		 c->attempts, (long long)c->backoff_cap_ms, (long long)c->backoff_initial_ms,
		 c->backoff_factor, r->timeout, r->source);
}

void receipt_build_fail(struct buf *b, const struct route *r)
{
	buf_addf(b,
		 "WITH now AS MATERIALIZED (SELECT pg_catalog.clock_timestamp() AS at, CASE WHEN $5::integer > 0 THEN $5::integer"
		 "  ELSE coalesce((SELECT p.attempt FROM %s p WHERE p.route = %d AND p.strand_id = " RECEIPT_KEY("$1") "), 0) + 1"
		 "  END AS attempt)", r->receipts, r->number);
	build_verdict(b, r);
	buf_addf(b,
		 " INSERT INTO %s AS p (route, strand_id, long_id, state, attempt, due_at, instance, error, sqlstate,"
		 "   started_at, finished_at)"
		 " SELECT %d, strandd.receipt_key($1), strandd.long_id($1),"
		 "   CASE WHEN v.due_at IS NULL THEN 'failed' ELSE 'retry' END, v.attempt, v.due_at, $2::bigint, $3, $4, v.at,"
		 "   CASE WHEN v.due_at IS NULL THEN pg_catalog.clock_timestamp() END FROM verdict v"
		 " ON CONFLICT (route, strand_id) DO UPDATE SET long_id = excluded.long_id, state = excluded.state,"
		 "   attempt = excluded.attempt, due_at = excluded.due_at, instance = excluded.instance, error = excluded.error,"
		 "   sqlstate = excluded.sqlstate, started_at = coalesce(p.started_at, excluded.started_at),"
		 "   finished_at = excluded.finished_at, marked = false"
		 "  WHERE (p.state = 'retry' AND $5::integer = 0)"
		 "   OR (p.state = 'running' AND p.instance = $2::bigint AND p.attempt = $5::integer)"
		 " RETURNING p.state, p.attempt,"
		 "  pg_catalog.ceil(extract(epoch FROM p.due_at - pg_catalog.clock_timestamp()) * 1000)::bigint",
		 r->receipts, r->number);
}

/* A lease of one's own that memory does not know is one whose COMMIT had no answer:
 * it is taken up as it stands.  One that somebody left behind has cost its attempt. */
void receipt_build_lease(struct buf *b, const struct route *r)
{
	static const char last[] = "p.state = 'running' AND p.instance <> $2::bigint AND p.attempt >= ";
	int attempts = r->conf->attempts;

	buf_addf(b,
		 "INSERT INTO %s AS p (route, strand_id, long_id, state, attempt, due_at, instance, started_at)"
		 " SELECT %d, strandd.receipt_key($1), strandd.long_id($1), 'running', 1,"
		 "   pg_catalog.clock_timestamp() + " LEASE_GRACE ", $2::bigint, pg_catalog.clock_timestamp()"
		 "  FROM %s t, %s l WHERE t.id = $1 AND coalesce(t.tags OPERATOR(pg_catalog.@>) %s, false) AND %s"
		 "   AND (l.history IS NULL OR NOT pg_catalog.pg_visible_in_snapshot(t.xact_id, l.history))",
		 r->receipts, r->number, r->source, r->routes, r->tag_array, r->where);
	buf_addf(b,
		 " ON CONFLICT (route, strand_id) DO UPDATE SET instance = excluded.instance, started_at = excluded.started_at,"
		 "   state = CASE WHEN %s%d THEN 'failed' ELSE 'running' END,"
		 "   attempt = CASE WHEN p.state = 'running' AND (p.instance = $2::bigint OR p.attempt >= %d) THEN p.attempt"
		 "    ELSE p.attempt + 1 END,"
		 "   due_at = CASE WHEN %s%d THEN NULL ELSE excluded.due_at END,"
		 "   finished_at = CASE WHEN %s%d THEN pg_catalog.clock_timestamp() END,"
		 "   error = CASE WHEN %s%d THEN coalesce(p.error, 'the service ended while the handler ran') ELSE p.error END,"
		 "   sqlstate = CASE WHEN %s%d THEN coalesce(p.sqlstate, '57P01') ELSE p.sqlstate END"
		 "  WHERE (p.state = 'retry' AND p.due_at <= pg_catalog.clock_timestamp())"
		 "   OR (p.state = 'running' AND (p.instance = $2::bigint OR ($3::boolean AND p.due_at <= pg_catalog.clock_timestamp())))"
		 " RETURNING p.state, p.attempt",
		 last, attempts, attempts, last, attempts, last, attempts, last, attempts, last, attempts);
}

/* The coalesce, here and below, keeps the partial index of what is due out of a look-up
 * by key. */
void receipt_build_give_back(struct buf *b, const struct route *r)
{
	buf_addf(b,
		 "UPDATE %s p SET state = 'retry', attempt = p.attempt - 1, due_at = pg_catalog.clock_timestamp()"
		 " WHERE p.route = %d AND p.strand_id = " RECEIPT_KEY("$1")
		 "  AND coalesce(p.state = 'running', false) AND p.instance = $2::bigint AND p.attempt = $3::integer"
		 "  AND EXISTS (SELECT FROM %s q WHERE q.route = %d AND q.strand_id = " RECEIPT_KEY("$1") " FOR UPDATE SKIP LOCKED)",
		 r->receipts, r->number, r->receipts, r->number);
}

void receipt_build_rest(struct buf *b, const struct route *r)
{
	buf_addf(b,
		 "UPDATE %s p SET state = 'withdrawn', due_at = NULL, finished_at = pg_catalog.clock_timestamp()"
		 " WHERE p.route = %d AND p.strand_id = " RECEIPT_KEY("$1")
		 "  AND coalesce(p.state IN ('running', 'retry'), false) AND p.due_at <= pg_catalog.clock_timestamp()"
		 "  AND NOT EXISTS (SELECT FROM %s t WHERE t.id = $1 AND coalesce(t.tags OPERATOR(pg_catalog.@>) %s, false))%s",
		 r->receipts, r->number, r->source, r->tag_array,
		 route_is_process(r) ? " AND (p.state = 'retry' OR " MAY_TAKE_OVER("p.instance") ")" : "");
}
