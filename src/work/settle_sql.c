#include "work/settle_sql.h"

#include <stdio.h>

#include "work/receipt.h"

/* Elements `timeout:<seconds>`, beside the route's tag; strict, because jsonpath's lax mode looks into
 * elements that are arrays; silent, because strict raises where tags are no array. */
#define HAS_TIMEOUT "pg_catalog.jsonb_array_length((x.s).tags) > 1 AND pg_catalog.jsonb_path_exists((x.s).tags, 'strict $[*] ? (@ starts with \"timeout:\")', '{}', true)"

/* Strands of the array that exist, bear the tag, are no history, and whose receipt
 * lets them run: there is none, a retry is due, or it is a lease that `running` lets
 * through.  Key lookups are scalar subqueries: a join would let the
 * planner choose, and a join order can call the handler before the claim is known.
 * Each row is made when it is asked for, so a strand's timeout is judged just before
 * its handler is called.  What is beyond max_batch_bytes is left for the next batch;
 * a first strand that is larger goes alone.  `more`: columns besides. */
static void build_claimed(struct buf *b, const struct route *r, const char *running, const char *more)
{
	buf_addf(b,
		 "WITH lifted AS MATERIALIZED (SELECT " PINS(PIN_OFF) "),"
		 " live AS MATERIALIZED (SELECT l.history FROM %s l WHERE %s),"
		 " claimed AS MATERIALIZED (SELECT y.n, y.id, y.s, y.started_at, y.known,"
		 "   coalesce((y.p).attempt, 0) AS charged, coalesce(y.timeouts[2], 0) AS odd,"
		 "   coalesce((y.p).state = 'running' AND (y.p).instance <> $2::bigint, false) AS orphan,"
		 "   coalesce((y.p).attempt, 0) + CASE WHEN (y.p).state = 'running' AND (y.p).instance = $2::bigint THEN 0 ELSE 1 END AS attempt,"
		 "   coalesce(" AGE_OF("(y.s).tagged_at", "y.started_at") " >= coalesce(y.timeouts[1], %s), false) AS expired%s"
		 "  FROM (SELECT x.n, x.id, x.s, x.p, (x.p).state IS NOT NULL AS known, pg_catalog.clock_timestamp() AS started_at,"
		 "    CASE WHEN " HAS_TIMEOUT " THEN strandd.timeouts((x.s).tags) END AS timeouts,"
		 "    pg_catalog.sum(pg_catalog.pg_column_size(x.s)) OVER (ROWS UNBOUNDED PRECEDING) - pg_catalog.pg_column_size(x.s) AS before"
		 "   FROM (SELECT u.n, u.id, l.history,"
		 "     (SELECT t FROM %s t WHERE t.id = u.id AND coalesce(t.tags OPERATOR(pg_catalog.@>) %s, false)) AS s,"
		 "     (SELECT p FROM %s p WHERE p.route = %d AND p.strand_id = " RECEIPT_KEY("u.id") ") AS p"
		 "     FROM live l, pg_catalog.unnest($1::text[]) WITH ORDINALITY AS u(id, n) OFFSET 0) x"
		 "   WHERE x.s IS DISTINCT FROM NULL"
		 "    AND CASE (x.p).state WHEN 'retry' THEN (x.p).due_at <= pg_catalog.clock_timestamp()"
		 "      WHEN 'running' THEN %s"
		 "      ELSE (x.p).state IS NULL END"
		 "    AND (x.history IS NULL OR NOT pg_catalog.pg_visible_in_snapshot((x.s).xact_id, x.history))"
		 "    AND (SELECT count(*) FROM lifted) = 1) y WHERE y.before < %lld)",
		 r->routes, r->where, r->timeout, more, r->source, r->tag_array, r->receipts, r->number,
		 running, (long long)r->max_batch_bytes);
}

/* The rows flow one by one: a strand's replies are in the table before the next
 * strand's handler runs.  A STABLE handler does not see them, and AFTER triggers
 * have not run by then: serial routes settle one strand a statement.  The attempt
 * is a setting that the handler can read, written only where it differs. */
static void build_handled(struct buf *b, const struct route *r, const struct columns *cols)
{
	buf_addf(b,
		 ", handled AS MATERIALIZED (SELECT c.n, c.id, c.started_at, c.attempt, c.known, c.odd, h.i, h.reply,"
		 "   CASE WHEN h.reply IS NULL THEN NULL"
		 "    ELSE coalesce(h.reply ->> 'update', h.reply ->> 'id', strandd.new_id(%s)) END AS reply_id"
		 "  FROM claimed c LEFT JOIN LATERAL %s(CASE WHEN pg_catalog.current_setting('strand.attempt', true) = c.attempt::text"
		 "    OR pg_catalog.set_config('strand.attempt', c.attempt::text, true) IS NOT NULL THEN %s END)"
		 "   WITH ORDINALITY AS h(reply, i) ON true WHERE NOT c.expired)",
		 cols->id_prefix, r->handler, r->handler_takes_json ? "pg_catalog.to_jsonb(c.s)" : "c.s");
}

static void build_sent(struct buf *b, const struct route *r, const struct columns *cols)
{
	buf_addf(b, ", sent AS (INSERT INTO %s (%s) SELECT %s"
		 " FROM handled g, LATERAL pg_catalog.jsonb_to_record(g.reply) AS r(%s)"
		 " WHERE CASE WHEN g.reply IS NULL THEN false"
		 "  WHEN pg_catalog.jsonb_typeof(g.reply) <> 'object'"
		 "   THEN strandd.refuse_reply(g.id, g.reply, %s)"
		 "  WHEN g.reply ? 'update' THEN strandd.update_strand(%s, g.id, g.reply, %s)"
		 "  WHEN pg_catalog.jsonb_typeof(g.reply -> 'tags') NOT IN ('array', 'null')"
		 "   OR g.reply - %s <> '{}' THEN strandd.refuse_reply(g.id, g.reply, %s)"
		 "  ELSE true END RETURNING 1)",
		 r->receiver, cols->names, cols->values, cols->definitions, cols->known,
		 cols->receiver_literal, cols->known, cols->known, cols->known);
}

/* Receipts last, and the answer after them: `sent` has run to its end before
 * `done` reads a row, the receipts before the outermost query does.  A receipt that
 * is there already (a retry, a lease) is updated as it was found, or nothing stands:
 * as a conflict, because an UPDATE that joins lets the planner read all of them. */
static void build_settled(struct buf *b, const struct route *r, const struct columns *cols)
{
	buf_addf(b,
		 ", done AS MATERIALIZED (SELECT g.n, g.id, g.attempt, g.known, g.odd, 'done' AS state,"
		 "   pg_catalog.min(g.started_at) AS started_at,"
		 "   pg_catalog.array_agg(g.reply_id ORDER BY g.i) FILTER (WHERE g.reply_id IS NOT NULL) AS reply_ids,"
		 "   pg_catalog.sum(CASE WHEN (g.reply -> 'tags') OPERATOR(pg_catalog.<@) %s THEN 0"
		 "     WHEN g.reply ? 'tags' THEN strandd.unrouted_tags(g.reply -> 'tags', %s) ELSE 0 END) AS unrouted"
		 "  FROM handled g WHERE (SELECT count(*) FROM sent) IS NOT NULL"
		 "  GROUP BY g.n, g.id, g.attempt, g.known, g.odd"
		 "  UNION ALL SELECT c.n, c.id, c.charged, c.known, c.odd, 'expired', c.started_at, NULL, 0"
		 "   FROM claimed c WHERE c.expired AND (SELECT count(*) FROM sent) IS NOT NULL)"
		 ", settled AS (INSERT INTO %s (route, strand_id, long_id, state, attempt, instance, reply_ids, started_at, finished_at)"
		 "  SELECT %d, strandd.receipt_key(d.id), CASE WHEN d.state = 'expired' THEN strandd.long_id(d.id) END, d.state,"
		 "   d.attempt, $2::bigint, d.reply_ids, d.started_at, pg_catalog.clock_timestamp()"
		 "   FROM done d WHERE NOT d.known RETURNING 1)"
		 ", resettled AS (INSERT INTO %s AS p (route, strand_id, long_id, state, attempt, instance, reply_ids, started_at, finished_at)"
		 "  SELECT %d, strandd.receipt_key(d.id), CASE WHEN d.state = 'expired' THEN strandd.long_id(d.id) END, d.state,"
		 "   d.attempt, $2::bigint, d.reply_ids, d.started_at, pg_catalog.clock_timestamp() FROM done d WHERE d.known"
		 "  ON CONFLICT (route, strand_id) DO UPDATE SET long_id = excluded.long_id, state = excluded.state,"
		 "   attempt = excluded.attempt, due_at = NULL, instance = excluded.instance, error = NULL, sqlstate = NULL,"
		 "   reply_ids = excluded.reply_ids, started_at = excluded.started_at, finished_at = excluded.finished_at"
		 "   WHERE p.state IN ('running', 'retry') AND p.attempt = excluded.attempt"
		 "    - CASE WHEN p.state = 'retry' AND excluded.state = 'done' THEN 1 ELSE 0 END RETURNING 1)"
		 " SELECT d.n, coalesce(pg_catalog.cardinality(d.reply_ids), 0), d.unrouted, d.state, d.odd"
		 "  FROM done d WHERE (SELECT count(*) FROM settled) IS NOT NULL"
		 "   AND CASE WHEN (SELECT count(*) FROM resettled) = (SELECT count(*) FROM done k WHERE k.known) THEN true"
		 "     ELSE strandd.lost_claim() END",
		 cols->attached_json, cols->attached, r->receipts, r->number, r->receipts, r->number);
}

void settle_build(struct buf *b, const struct route *r, const struct columns *cols)
{
	build_claimed(b, r, "(x.p).instance = $2::bigint AND (x.p).attempt = $3::integer", "");
	build_handled(b, r, cols);
	build_sent(b, r, cols);
	build_settled(b, r, cols);
}

/* What becomes of a strand that may be handed out.  A lease that somebody left behind
 * has cost its attempt; of a route that delivers at most once it is the last. */
static void build_judged(struct buf *b, const struct route *r)
{
	buf_addf(b,
		 ", judged AS MATERIALIZED (SELECT c.n, c.id, c.s, c.started_at, c.odd, c.left, v.state,"
		 "   CASE v.state WHEN 'running' THEN c.attempt ELSE c.charged END AS attempt"
		 "  FROM claimed c, LATERAL (SELECT CASE WHEN c.orphan AND %s THEN 'failed' WHEN c.expired THEN 'expired'"
		 "    WHEN c.orphan AND c.charged >= %d THEN 'failed' ELSE 'running' END OFFSET 0) AS v(state))",
		 r->conf->delivery == DELIVERY_AT_MOST_ONCE ? "true" : "false", r->conf->attempts);
}

void settle_build_hand_out(struct buf *b, const struct route *r)
{
	bool once = r->conf->delivery == DELIVERY_AT_MOST_ONCE;
	char left[200];

	snprintf(left, sizeof(left), ", coalesce(y.timeouts[1], %s) - " AGE_OF("(y.s).tagged_at", "y.started_at") " AS left", r->timeout);
	build_claimed(b, r, MAY_TAKE_OVER("(x.p).instance"), left);
	build_judged(b, r);
	buf_addf(b,
		 ", handed AS (INSERT INTO %s AS p (route, strand_id, long_id, state, attempt, due_at, instance, error, sqlstate,"
		 "   started_at, finished_at)"
		 "  SELECT %d, strandd.receipt_key(j.id), strandd.long_id(j.id), j.state, j.attempt,"
		 "   CASE j.state WHEN 'running' THEN j.started_at + " LEASE_GRACE " END, $2::bigint,"
		 "   CASE j.state WHEN 'failed' THEN '%s' END, CASE j.state WHEN 'failed' THEN '%s' END, j.started_at,"
		 "   CASE WHEN j.state <> 'running' THEN pg_catalog.clock_timestamp() END FROM judged j"
		 "  ON CONFLICT (route, strand_id) DO UPDATE SET long_id = excluded.long_id, state = excluded.state,"
		 "   attempt = excluded.attempt, due_at = excluded.due_at, instance = excluded.instance,"
		 "   error = coalesce(excluded.error, p.error), sqlstate = coalesce(excluded.sqlstate, p.sqlstate),"
		 "   started_at = excluded.started_at, finished_at = excluded.finished_at, marked = false"
		 "   WHERE p.state IN ('running', 'retry') AND p.attempt IN (excluded.attempt, excluded.attempt - 1) RETURNING 1)"
		 " SELECT j.n, j.state, j.attempt, CASE j.state WHEN 'running' THEN pg_catalog.to_jsonb(j.s)::text END, j.odd,"
		 "   CASE WHEN j.left < 1000000 THEN pg_catalog.floor(j.left * 1000)::bigint END"
		 "  FROM judged j WHERE CASE WHEN (SELECT count(*) FROM handed) = (SELECT count(*) FROM judged) THEN true"
		 "   ELSE strandd.lost_claim() END",
		 r->receipts, r->number,
		 once ? "the service ended while the handler ran: nobody knows what it did"
		      : "the service ended while the handler ran",
		 once ? SQLSTATE_UNKNOWN : "57P01");
}

/* The receipt alone says whether the answer counts: the strand may be gone by now, and
 * what its handler did is done all the same. */
void settle_build_answers(struct buf *b, const struct route *r, const struct columns *cols)
{
	buf_addf(b,
		 "WITH lifted AS MATERIALIZED (SELECT " PINS(PIN_OFF) "),"
		 " claimed AS MATERIALIZED (SELECT u.n, u.id, u.replies, p.started_at, p.attempt, p.attempt AS charged,"
		 "   true AS known, 0 AS odd, false AS expired"
		 "  FROM ROWS FROM (pg_catalog.unnest($1::text[]), pg_catalog.unnest($3::integer[]), pg_catalog.unnest($4::text[]))"
		 "   WITH ORDINALITY AS u(id, attempt, replies, n),"
		 "   LATERAL (SELECT p.started_at, p.attempt FROM %s p WHERE p.route = %d AND p.strand_id = " RECEIPT_KEY("u.id")
		 "     AND coalesce(p.state = 'running', false) AND p.instance = $2::bigint AND p.attempt = u.attempt OFFSET 0) p"
		 "  WHERE (SELECT count(*) FROM lifted) = 1),"
		 " handled AS MATERIALIZED (SELECT c.n, c.id, c.started_at, c.attempt, c.known, c.odd, h.i, h.reply,"
		 "   CASE WHEN h.reply IS NULL THEN NULL"
		 "    ELSE coalesce(h.reply ->> 'update', h.reply ->> 'id', strandd.new_id(%s)) END AS reply_id"
		 "  FROM claimed c LEFT JOIN LATERAL pg_catalog.jsonb_array_elements(c.replies::jsonb)"
		 "   WITH ORDINALITY AS h(reply, i) ON true)",
		 r->receipts, r->number, cols->id_prefix);
	build_sent(b, r, cols);
	build_settled(b, r, cols);
}
