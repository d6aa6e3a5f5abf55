#include "work/rehearse.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "pg/array.h"
#include "work/process_rules.h"
#include "work/receipt.h"

/* --- the session -------------------------------------------------------------- */

static int64_t soon(const struct rehearsal *r)
{
	return batch_deadline(&r->batch);
}

int rehearsal_open(struct rehearsal *r, const struct conf *conf, const struct conf_route *route,
		   const struct conn_target *target, struct conn *c, int stop_fd, struct err *e)
{
	int64_t deadline = clock_after_ms(conf->db_connect_timeout_ms);
	int ret;

	*r = (struct rehearsal){ .once = route->delivery == DELIVERY_AT_MOST_ONCE };
	ret = route_table_resolve_one(&r->table, conf, route, c, e);
	if (ret)
		return ret;
	r->context = (struct context){ .conf = conf, .target = target, .routes = r->table };
	r->items[0] = &r->delivery;
	r->batch = (struct batch){ .context = &r->context, .route = &r->table->routes[0], .n = 1,
				   .items = r->items, .states = r->states };
	ret = session_open(&r->session, target, r->table, deadline, stop_fd, e);
	if (!ret)
		ret = session_prepare(r->session, r->batch.route, deadline, e);
	if (ret)
		rehearsal_close(r);
	return ret;
}

void rehearsal_close(struct rehearsal *r)
{
	session_close(r->session);
	route_table_free(r->table);
	*r = (struct rehearsal){ 0 };
}

void rehearsal_choose(struct rehearsal *r, const char *id, unsigned attempt)
{
	r->id = id;
	r->attempt = attempt;
	r->delivery = (struct delivery){ .id = (char *)id, .id_len = strlen(id) };
}

void rehearsed_release(struct rehearsed *d)
{
	PQclear(d->replies);
	free(d->receipt);
	*d = (struct rehearsed){ 0 };
}

/* --- the transaction ---------------------------------------------------------- */

/* The receipt as the attempt finds it: whatever it said, this is not the time for it. */
static int place_receipt(struct rehearsal *r, bool lease, struct err *e)
{
	const struct route *route = r->batch.route;
	char attempt[16];
	const char *values[] = { r->id, lease ? "running" : "retry", attempt };
	struct buf sql = BUF_INIT;
	int ret;

	snprintf(attempt, sizeof(attempt), "%u", lease ? r->attempt : r->attempt - 1);
	buf_init(&sql);
	buf_addf(&sql, "INSERT INTO %s AS p (route, strand_id, long_id, state, attempt, due_at, instance, started_at)"
		 " SELECT %d, strandd.receipt_key($1), strandd.long_id($1), $2, $3::integer, pg_catalog.now(), %s,"
		 "  pg_catalog.clock_timestamp()"
		 " ON CONFLICT (route, strand_id) DO UPDATE SET long_id = excluded.long_id, state = excluded.state,"
		 "  attempt = excluded.attempt, due_at = excluded.due_at, instance = excluded.instance, error = NULL,"
		 "  sqlstate = NULL, reply_ids = NULL, started_at = excluded.started_at, finished_at = NULL, marked = false",
		 route->receipts, route->number, r->table->instance_text);
	ret = sql.failed ? err_set(e, STRAND_ENOMEM, "out of memory")
		: conn_query(r->session->conn, sql.data, 3, values, soon(r), NULL, e);
	buf_release(&sql);
	return ret;
}

/* 0 with ITEM_OURS: the strand is ours, and its receipt lets it run. */
static int begin(struct rehearsal *r, bool lease, struct err *e)
{
	int ret = batch_claim(&r->batch, r->session, e);

	if (!ret && r->states[0] == ITEM_OURS)
		ret = place_receipt(r, lease, e);
	return ret;
}

/* Whatever came of it.  A connection that is broken takes the transaction with it, and
 * what still runs on the server is ended. */
static int end(struct rehearsal *r, int ret, struct err *e)
{
	struct conn *c = r->session->conn;

	if (conn_usable(c))
		return batch_rollback(r->session, ret ? NULL : e) && !ret ? STRAND_ECONN : ret;
	conn_kill(c, true);
	return ret;
}

static int one_id(const struct rehearsal *r, struct buf *ids, struct err *e)
{
	buf_init(ids);
	array_begin(ids);
	array_item(ids, r->id, r->delivery.id_len);
	array_end(ids);
	return ids->failed ? err_set(e, STRAND_ENOMEM, "out of memory") : 0;
}

/* --- what it came to ---------------------------------------------------------- */

/* $1 the id: `what` of its receipt p. */
static int ask_receipt(struct rehearsal *r, const char *what, const char *more, PGresult **ret, struct err *e)
{
	const struct route *route = r->batch.route;
	const char *values[] = { r->id };
	struct buf sql = BUF_INIT;
	int code;

	buf_init(&sql);
	buf_addf(&sql, "SELECT %s FROM %s p%s WHERE p.route = %d AND p.strand_id = " RECEIPT_KEY("$1") "%s", what,
		 route->receipts, more, route->number, *more ? " AND t.id = u.id ORDER BY u.n" : "");
	code = sql.failed ? err_set(e, STRAND_ENOMEM, "out of memory")
		: conn_query(r->session->conn, sql.data, 1, values, soon(r), ret, e);
	buf_release(&sql);
	return code;
}

static int read_receipt(struct rehearsal *r, struct rehearsed *d, struct err *e)
{
	PGresult *res;
	int ret = ask_receipt(r, "pg_catalog.to_jsonb(p) - 'route' - 'long_id' - 'instance' - 'marked'"
			      " || pg_catalog.jsonb_build_object('strand_id', $1::text)", "", &res, e);

	if (ret)
		return ret;
	if (PQntuples(res)) {
		d->receipt = strdup(PQgetvalue(res, 0, 0));
		ret = d->receipt ? 0 : err_set(e, STRAND_ENOMEM, "out of memory");
	}
	PQclear(res);
	return ret;
}

static int read_replies(struct rehearsal *r, struct rehearsed *d, struct err *e)
{
	struct buf more = BUF_INIT;
	int ret;

	buf_init(&more);
	buf_addf(&more, ", pg_catalog.unnest(p.reply_ids) WITH ORDINALITY AS u(id, n), %s t", r->batch.route->receiver);
	ret = more.failed ? err_set(e, STRAND_ENOMEM, "out of memory")
		: ask_receipt(r, "pg_catalog.to_jsonb(t) - 'xact_id' - 'tagged_at'", more.data, &d->replies, e);
	buf_release(&more);
	return ret;
}

static int read_settled(struct rehearsal *r, struct rehearsed *d, struct err *e)
{
	int ret;

	d->state = r->states[0] == ITEM_OURS ? ITEM_GONE : r->states[0];
	if (d->state == ITEM_GONE)
		return 0;
	/* The handler may have changed them. */
	ret = batch_set_anew(&r->batch, r->session, e);
	if (!ret)
		ret = read_receipt(r, d, e);
	return ret || d->state != ITEM_SETTLED ? ret : read_replies(r, d, e);
}

/* As the service would: the attempt has failed. */
static int charge(struct rehearsal *r, bool leased, bool final, struct rehearsed *d, struct err *e)
{
	char lease[16];
	const char *values[] = { r->id, r->table->instance_text, d->why.text, d->why.sqlstate, lease, final ? "true" : "false" };
	struct session *s = r->session;
	PGresult *res;
	int ret;

	snprintf(lease, sizeof(lease), "%u", leased ? r->attempt : 0);
	ret = batch_set_anew(&r->batch, s, e);
	if (!ret)
		ret = conn_query(s->conn, s->routes[r->batch.route->index].sql.fail, 6, values, soon(r), &res, e);
	if (ret)
		return ret;
	if (PQntuples(res))
		d->state = *PQgetvalue(res, 0, 0) == 'r' ? ITEM_RETRY : ITEM_FAILED;
	else
		ret = err_set(e, STRAND_EPROTO, "the receipt of strand \"%.64s\" cannot be changed", r->id);
	PQclear(res);
	return ret ? ret : read_receipt(r, d, e);
}

/* Of a process that has worked. */
static int charge_work(struct rehearsal *r, struct rehearsed *d, struct err *e)
{
	const struct err why = d->why;
	bool final = process_charge_work(&why, r->once, &d->why);

	return charge(r, true, final, d, e);
}

/* The statement failed: is it the handler that did it? */
static int judge(struct rehearsal *r, bool leased, struct rehearsed *d, struct err *e)
{
	int ret = batch_undo_one(&r->batch, r->session, e);

	if (ret)
		return ret;
	(void)!batch_failed(&r->batch, STAGE_HANDLE, STRAND_ESQL, &d->why);
	d->fault = r->batch.fault;
	if (leased && (d->fault == FAULT_HANDLER || d->fault == FAULT_CONFIGURATION))
		return charge_work(r, d, e);
	if (d->fault == FAULT_HANDLER)
		return charge(r, false, false, d, e);
	d->state = ITEM_PUT_OFF;
	return 0;
}

/* The session is lost, and what the handler did with it: so it is charged, in the end. */
static int lost(int ret, struct rehearsed *d, struct err *e)
{
	if (ret != STRAND_ETIMEOUT && ret != STRAND_ECONN) {
		*e = d->why;
		return ret;
	}
	if (ret == STRAND_ETIMEOUT) {
		err_set(&d->why, ret, "the handler did not end in time (workers.handler_timeout), and its session was ended");
		snprintf(d->why.sqlstate, sizeof(d->why.sqlstate), "57014");
	}
	d->state = ITEM_PUT_OFF;
	d->fault = FAULT_CONNECTION;
	return 0;
}

/* Behind `begin`: `settle` with these values, checked as behind a savepoint. */
static int settle(struct rehearsal *r, int n_values, const char *const *values, bool leased, struct rehearsed *d,
		  struct err *e)
{
	int ret = batch_run_one(&r->batch, r->session, 0, n_values, values, true, &d->why);

	if (!ret)
		return read_settled(r, d, e);
	return ret == STRAND_ESQL ? judge(r, leased, d, e) : lost(ret, d, e);
}

/* --- a function --------------------------------------------------------------- */

int rehearse_function(struct rehearsal *r, struct rehearsed *ret, struct err *e)
{
	struct buf ids;
	const char *values[] = { NULL, r->table->instance_text, "0" };
	int code = one_id(r, &ids, e);

	*ret = (struct rehearsed){ .state = ITEM_TAKEN };
	values[0] = ids.data;
	if (!code)
		code = begin(r, false, e);
	if (!code && r->states[0] == ITEM_OURS)
		code = settle(r, 3, values, false, ret, e);
	buf_release(&ids);
	return end(r, code, e);
}

/* --- a process ---------------------------------------------------------------- */

static int read_row(const PGresult *res, char **ret_row, struct rehearsed *d, struct err *e)
{
	if (!PQntuples(res)) {
		d->state = ITEM_GONE;
	} else if (*PQgetvalue(res, 0, 1) == 'r') {
		d->state = ITEM_SETTLED;
		*ret_row = strdup(PQgetvalue(res, 0, 3));
		return *ret_row ? 0 : err_set(e, STRAND_ENOMEM, "out of memory");
	} else {
		d->state = ITEM_EXPIRED;
	}
	return 0;
}

static int hand_out(struct rehearsal *r, char **ret_row, struct rehearsed *d, struct err *e)
{
	struct session *s = r->session;
	struct buf ids;
	const char *values[] = { NULL, r->table->instance_text, "{}" };
	PGresult *res = NULL;
	int ret = one_id(r, &ids, e);

	values[0] = ids.data;
	if (!ret)
		ret = conn_query(s->conn, s->routes[r->batch.route->index].sql.hand_out, 3, values, soon(r), &res, e);
	buf_release(&ids);
	if (!ret)
		ret = read_row(res, ret_row, d, e);
	PQclear(res);
	return !ret && d->state == ITEM_EXPIRED ? read_receipt(r, d, e) : ret;
}

int rehearse_hand_out(struct rehearsal *r, char **ret_row, struct rehearsed *ret, struct err *e)
{
	int code;

	*ret = (struct rehearsed){ .state = ITEM_TAKEN };
	*ret_row = NULL;
	code = begin(r, false, e);
	if (!code && r->states[0] == ITEM_OURS)
		code = hand_out(r, ret_row, ret, e);
	return end(r, code, e);
}

static int settle_answer(struct rehearsal *r, const struct request *q, struct rehearsed *d, struct err *e)
{
	char attempts[24];
	struct buf ids, replies;
	int ret = one_id(r, &ids, e);

	snprintf(attempts, sizeof(attempts), "{%u}", r->attempt);
	buf_init(&replies);
	array_begin(&replies);
	array_item(&replies, q->text, q->text_len);
	array_end(&replies);
	if (!ret && replies.failed)
		ret = err_set(e, STRAND_ENOMEM, "out of memory");
	if (!ret) {
		const char *values[] = { ids.data, r->table->instance_text, attempts, replies.data };
		ret = settle(r, 4, values, true, d, e);
	}
	buf_release(&ids);
	buf_release(&replies);
	return ret;
}

int rehearse_answer(struct rehearsal *r, const struct exchange *x, struct rehearsed *ret, struct err *e)
{
	const struct request *q = &x->requests[0];
	int code;

	*ret = (struct rehearsed){ .state = ITEM_TAKEN };
	code = begin(r, true, e);
	if (!code && r->states[0] == ITEM_OURS && q->state == REQUEST_ANSWERED) {
		code = settle_answer(r, q, ret, e);
	} else if (!code && r->states[0] == ITEM_OURS) {
		bool final = process_charge(x, q, r->once, &ret->why);

		ret->fault = FAULT_HANDLER;
		code = charge(r, true, final, ret, e);
	}
	return end(r, code, e);
}
