#include "work/statement.h"

#include <stdlib.h>

#include "base/buf.h"
#include "work/columns.h"
#include "work/receipt.h"
#include "work/settle_sql.h"

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
	free(s->hand_out);
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
	if (route_is_process(r)) {
		settle_build_hand_out(&b, r);
		s.hand_out = text_of(&b);
		settle_build_answers(&b, r, &cols);
	} else {
		settle_build(&b, r, &cols);
	}
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
