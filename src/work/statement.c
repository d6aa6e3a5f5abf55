#include "work/statement.h"

#include <stdlib.h>

#include "base/buf.h"
#include "work/columns.h"
#include "work/receipt.h"

/* The planner's estimates are wrong on tables that are new or grow fast, and a
 * wrong plan here costs a second a batch: keys are looked up through indexes,
 * whatever the statistics say.  Lifted again before a handler is called. */
#define PINS(pin) \
	pin("plan_cache_mode", "force_generic_plan") "," pin("enable_seqscan", "off") "," \
	pin("enable_bitmapscan", "off") "," pin("enable_hashjoin", "off") "," \
	pin("enable_mergejoin", "off") "," pin("max_parallel_workers_per_gather", "0")
#define PIN_ON(name, value) "pg_catalog.set_config('" name "', '" value "', true)"
#define PIN_OFF(name, value) "pg_catalog.set_config('" name "', NULL, true)"

static const char settings_sql[] =
	"SELECT pg_catalog.set_config('search_path', $1, true),"
	" pg_catalog.set_config('lock_timeout', $2, true),"
	" pg_catalog.set_config('statement_timeout', $3, true),"
	" pg_catalog.set_config('idle_in_transaction_session_timeout', $4, true),"
	" pg_catalog.set_config('role', 'none', true),"
	" pg_catalog.set_config('strand.tag', $5, true),"
	" pg_catalog.set_config('strand.attempt', '1', true),"
	" pg_catalog.set_config('synchronous_commit', 'on', true),"
	" pg_catalog.set_config('jit', 'off', true),"
	" pg_catalog.set_config('DateStyle', 'ISO, YMD', true),"
	" pg_catalog.set_config('IntervalStyle', 'postgres', true),"
	" pg_catalog.set_config('TimeZone', 'UTC', true),"
	" pg_catalog.set_config('extra_float_digits', '1', true),"
	PINS(PIN_ON);

/* The locks are the route's own, so two instances that were told of the same
 * strand neither wait for each other nor write anything.  Of a serial route the
 * whole route is one more lock.  The receiver's shape comes along, because nothing
 * else would tell that a default which `settle` holds is another by now. */
static void build_claim(struct buf *b, const struct route *r, const struct columns *cols)
{
	if (r->conf->serial)
		buf_addf(b, "WITH turn AS MATERIALIZED (SELECT pg_catalog.pg_try_advisory_xact_lock(%lld) AS ours) ",
			 (long long)r->lock_seed);
	buf_addf(b, "SELECT u.n, " COLUMNS_SHAPE("%s") " FROM pg_catalog.unnest($1::text[]) WITH ORDINALITY AS u(id, n)"
		 " WHERE %spg_catalog.pg_try_advisory_xact_lock(pg_catalog.hashtextextended(u.id, %lld))",
		 cols->receiver_literal, r->conf->serial ? "(SELECT t.ours FROM turn t) AND " : "", (long long)r->lock_seed);
}

/* Elements `timeout:<seconds>`, beside the route's tag; strict, because jsonpath's lax mode looks into
 * elements that are arrays; silent, because strict raises where tags are no array. */
#define HAS_TIMEOUT "pg_catalog.jsonb_array_length((x.s).tags) > 1 AND pg_catalog.jsonb_path_exists((x.s).tags, 'strict $[*] ? (@ starts with \"timeout:\")', '{}', true)"

/* Strands of the array that exist, bear the tag, are no history, and whose receipt
 * lets them run: there is none, a retry is due, or this lease has it ($3, its
 * attempt; 0 without one).  Key lookups are scalar subqueries: a join would let the
 * planner choose, and a join order can call the handler before the claim is known.
 * Each row is made when it is asked for, so a strand's timeout is judged just before
 * its handler is called.  What is beyond max_batch_bytes is left for the next batch;
 * a first strand that is larger goes alone. */
static void build_claimed(struct buf *b, const struct route *r)
{
	buf_addf(b,
		 "WITH lifted AS MATERIALIZED (SELECT " PINS(PIN_OFF) "),"
		 " live AS MATERIALIZED (SELECT l.history FROM %s l WHERE %s),"
		 " claimed AS MATERIALIZED (SELECT y.n, y.id, y.s, y.started_at, y.known,"
		 "   coalesce((y.p).attempt, 0) AS charged, coalesce(y.timeouts[2], 0) AS odd,"
		 "   CASE WHEN (y.p).state = 'running' THEN (y.p).attempt ELSE coalesce((y.p).attempt, 0) + 1 END AS attempt,"
		 "   coalesce(" AGE_OF("(y.s).tagged_at", "y.started_at") " >= coalesce(y.timeouts[1], %s), false) AS expired"
		 "  FROM (SELECT x.n, x.id, x.s, x.p, (x.p).state IS NOT NULL AS known, pg_catalog.clock_timestamp() AS started_at,"
		 "    CASE WHEN " HAS_TIMEOUT " THEN strandd.timeouts((x.s).tags) END AS timeouts,"
		 "    pg_catalog.sum(pg_catalog.pg_column_size(x.s)) OVER (ROWS UNBOUNDED PRECEDING) - pg_catalog.pg_column_size(x.s) AS before"
		 "   FROM (SELECT u.n, u.id, l.history,"
		 "     (SELECT t FROM %s t WHERE t.id = u.id AND coalesce(t.tags OPERATOR(pg_catalog.@>) %s, false)) AS s,"
		 "     (SELECT p FROM %s p WHERE p.route = %d AND p.strand_id = " RECEIPT_KEY("u.id") ") AS p"
		 "     FROM live l, pg_catalog.unnest($1::text[]) WITH ORDINALITY AS u(id, n) OFFSET 0) x"
		 "   WHERE x.s IS DISTINCT FROM NULL"
		 "    AND CASE (x.p).state WHEN 'retry' THEN (x.p).due_at <= pg_catalog.clock_timestamp()"
		 "      WHEN 'running' THEN (x.p).instance = $2::bigint AND (x.p).attempt = $3::integer"
		 "      ELSE (x.p).state IS NULL END"
		 "    AND (x.history IS NULL OR NOT pg_catalog.pg_visible_in_snapshot((x.s).xact_id, x.history))"
		 "    AND (SELECT count(*) FROM lifted) = 1) y WHERE y.before < %lld)",
		 r->routes, r->where, r->timeout, r->source, r->tag_array, r->receipts, r->number,
		 (long long)r->max_batch_bytes);
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
static void build_settle(struct buf *b, const struct route *r, const struct columns *cols)
{
	build_claimed(b, r);
	build_handled(b, r, cols);
	build_sent(b, r, cols);
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

/* A retry that is due is as good as no receipt: what was left out of it was beyond
 * the batch's bytes, or came due since. */
static void build_examine(struct buf *b, const struct route *r)
{
	buf_addf(b, "SELECT u.n,"
		 " coalesce((SELECT t.tags OPERATOR(pg_catalog.@>) %s FROM %s t WHERE t.id = u.id), false),"
		 " (SELECT CASE WHEN p.state = 'retry' AND p.due_at <= pg_catalog.clock_timestamp() THEN NULL"
		 "   WHEN p.instance = $2::bigint THEN p.state ELSE 'another''s' END FROM %s p"
		 "   WHERE p.route = %d AND p.strand_id = " RECEIPT_KEY("u.id") "),"
		 " coalesce((SELECT coalesce(pg_catalog.pg_visible_in_snapshot(t.xact_id, l.history), false)"
		 "   FROM %s l, %s t WHERE %s AND t.id = u.id), true),"
		 " coalesce((SELECT p.due_at <= pg_catalog.clock_timestamp() FROM %s p"
		 "   WHERE p.route = %d AND p.strand_id = " RECEIPT_KEY("u.id") "), false)"
		 " FROM pg_catalog.unnest($1::text[]) WITH ORDINALITY AS u(id, n)",
		 r->tag_array, r->source, r->receipts, r->number, r->routes, r->source, r->where,
		 r->receipts, r->number);
}

void statements_release(struct statements *s)
{
	free(s->settings);
	free(s->claim);
	free(s->settle);
	free(s->fail);
	free(s->lease);
	free(s->give_back);
	free(s->rest);
	free(s->examine);
	free(s->shape);
	*s = (struct statements){ 0 };
}

static char *text_of(struct buf *b)
{
	char *text = buf_steal(b);

	buf_init(b);
	return text;
}

int statements_build(struct statements *ret, const struct route *r, struct conn *c,
		     int64_t deadline, struct err *e)
{
	struct statements s = { 0 };
	struct columns cols = { 0 };
	struct buf b = BUF_INIT;
	int code = columns_read(&cols, r, c, deadline, e);

	if (code)
		return code;
	buf_init(&b);
	buf_adds(&b, settings_sql);
	s.settings = text_of(&b);
	build_claim(&b, r, &cols);
	s.claim = text_of(&b);
	build_settle(&b, r, &cols);
	s.settle = text_of(&b);
	receipt_build_fail(&b, r);
	s.fail = text_of(&b);
	receipt_build_lease(&b, r);
	s.lease = text_of(&b);
	receipt_build_give_back(&b, r);
	s.give_back = text_of(&b);
	receipt_build_rest(&b, r);
	s.rest = text_of(&b);
	build_examine(&b, r);
	s.examine = text_of(&b);
	buf_release(&b);
	s.shape = cols.shape;
	cols.shape = NULL;
	columns_release(&cols);
	if (!s.settings || !s.claim || !s.settle || !s.fail || !s.lease || !s.give_back || !s.rest || !s.examine) {
		statements_release(&s);
		return err_set(e, STRAND_ENOMEM, "out of memory");
	}
	*ret = s;
	return 0;
}
