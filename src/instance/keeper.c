#include "instance/keeper.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/activity.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/outage.h"
#include "pg/conn.h"
#include "scan/scanner.h"

#define LOOK_MS 1000
#define DRAIN_LOOK_MS 100
#define QUERY_MS 2500		/* with a second's rest and a connection, within the grace too */
#define AGAIN_MS 1000		/* well within the grace of the others */
#define LEASES 1000		/* of a route, read at a look */

static const char take_sql[] = "SELECT pg_catalog.pg_try_advisory_lock(" KEEPER_LOCK_KEY("$1") ")";

/* Shared, so that two that look do not take each other for the living; and given back
 * at once. */
static const char probe_sql[] =
	"SELECT CASE WHEN pg_catalog.pg_try_advisory_lock_shared(" KEEPER_LOCK_KEY("$1") ")"
	" THEN pg_catalog.pg_advisory_unlock_shared(" KEEPER_LOCK_KEY("$1") ") ELSE false END";

/* Through the partial index of what is due.  Leases that are not due yet are read too:
 * so a dead holder is known for dead when they are. */
static const char others_sql[] =
	"SELECT DISTINCT p.instance FROM (SELECT p.instance, p.state FROM %s p WHERE p.route = %d"
	"  AND p.state IN ('running', 'retry') AND p.due_at <= pg_catalog.statement_timestamp() + interval '5 s'"
	"  ORDER BY p.due_at LIMIT %d) p WHERE p.state = 'running' AND p.instance <> $1::bigint";

static const char pins_sql[] =
	"SET enable_seqscan = off; SET enable_bitmapscan = off; SET enable_sort = off";

int keeper_init(struct keeper *k, const struct context *x)
{
	*k = (struct keeper){ .context = x };
	return pthread_mutex_init(&k->lock, NULL) ? STRAND_ENOMEM : 0;
}

void keeper_release(struct keeper *k)
{
	if (k->context)
		pthread_mutex_destroy(&k->lock);
	k->context = NULL;
}

void keeper_enter(struct keeper *k)
{
	/* acq_rel: the thread that ends the keeper sees what was done before a leave */
	atomic_fetch_add_explicit(&k->users, 1, memory_order_acq_rel);
}

void keeper_leave(struct keeper *k)
{
	atomic_fetch_sub_explicit(&k->users, 1, memory_order_acq_rel);
}

uint64_t keeper_term(const struct keeper *k)
{
	/* acquire: pairs with confirm, so a time of a new term never meets the old number */
	int64_t until = atomic_load_explicit(&k->held_until, memory_order_acquire);

	/* relaxed: ordered by the above */
	return clock_now() < until ? atomic_load_explicit(&k->term, memory_order_relaxed) : 0;
}

/* The lock was held at `asked` or later: whoever saw it free did so after that, and
 * waits for the grace. */
static void confirm(struct keeper *k, int64_t asked)
{
	/* release: pairs with keeper_term */
	atomic_store_explicit(&k->held_until, asked + (KEEPER_GRACE_MS - KEEPER_MARGIN_MS) * NSEC_PER_MSEC,
			      memory_order_release);
}

/* Through the session that has the lock, or is to have it. */
static int ask(struct keeper *k, const char *sql, int64_t number, PGresult **ret_result, struct err *e)
{
	char text[24];
	const char *values[] = { text };
	int64_t asked = clock_now();
	int ret;

	snprintf(text, sizeof(text), "%lld", (long long)number);
	ret = conn_query(k->conn, sql, 1, values, clock_after_ms(QUERY_MS), ret_result, e);
	/* relaxed: this thread's own */
	if (!ret && atomic_load_explicit(&k->term, memory_order_relaxed))
		confirm(k, asked);
	return ret;
}

void keeper_list_dead(struct keeper *k, struct buf *out)
{
	buf_adds(out, "{");
	pthread_mutex_lock(&k->lock);
	for (size_t i = 0; i < k->n_dead; i++)
		buf_addf(out, "%s%lld", i ? "," : "", (long long)k->dead[i]);
	pthread_mutex_unlock(&k->lock);
	buf_adds(out, "}");
}

/* One of another session's still means that this one has not ended for the server. */
static int take_lock(struct keeper *k, struct err *e)
{
	int64_t number = k->context->routes->instance, asked = clock_now();
	PGresult *res;
	int ret = ask(k, take_sql, number, &res, e);

	if (ret)
		return ret;
	if (*PQgetvalue(res, 0, 0) != 't') {
		ret = err_set(e, STRAND_EINVAL, "the lock of instance %lld is still held by an earlier session",
			      (long long)number);
	} else {
		/* relaxed: published by confirm */
		atomic_store_explicit(&k->term, ++k->last_term, memory_order_relaxed);
		confirm(k, asked);
	}
	PQclear(res);
	return ret;
}

static int connect_keeper(struct keeper *k, struct err *e)
{
	const struct context *x = k->context;
	int64_t deadline = clock_after_ms(x->conf->db_connect_timeout_ms);
	int ret = route_table_connect(x->routes, &k->conn, x->target, deadline, x->stop->now.fd, e);

	if (!ret)
		ret = conn_script(k->conn, pins_sql, deadline, e);
	if (!ret)
		ret = take_lock(k, e);
	return ret;
}

/* What was seen through another session counts no more: the server may be another, or
 * have been started anew. */
static void disconnect(struct keeper *k)
{
	/* relaxed: who sees it late is no worse off than who looked before; and the lock is
	 * not another's before the grace */
	atomic_store_explicit(&k->term, 0, memory_order_relaxed);
	conn_close(k->conn);
	k->conn = NULL;
	k->n_others = 0;
	pthread_mutex_lock(&k->lock);
	k->n_dead = 0;
	pthread_mutex_unlock(&k->lock);
}

static void note_other(struct keeper *k, int64_t number)
{
	for (size_t i = 0; i < k->n_others; i++) {
		if (k->others[i].number == number) {
			k->others[i].seen = true;
			return;
		}
	}
	if (k->n_others < KEEPER_OTHERS)
		k->others[k->n_others++] = (struct keeper_other){ .number = number, .seen = true };
}

static int find_others(struct keeper *k, const struct route *r, struct err *e)
{
	struct buf sql = BUF_INIT;
	PGresult *res;
	int ret;

	buf_init(&sql);
	buf_addf(&sql, others_sql, r->receipts, r->number, LEASES);
	ret = sql.failed ? err_set(e, STRAND_ENOMEM, "out of memory")
		: ask(k, sql.data, k->context->routes->instance, &res, e);
	buf_release(&sql);
	if (ret)
		return ret;
	for (int i = 0; i < PQntuples(res); i++)
		note_other(k, strtoll(PQgetvalue(res, i, 0), NULL, 10));
	PQclear(res);
	return 0;
}

static int probe(struct keeper *k, struct keeper_other *o, struct err *e)
{
	PGresult *res;
	int ret = ask(k, probe_sql, o->number, &res, e);

	if (ret)
		return ret;
	if (*PQgetvalue(res, 0, 0) != 't')
		o->free_since = 0;
	else if (!o->free_since)
		o->free_since = clock_now();
	PQclear(res);
	return 0;
}

static bool is_dead(const struct keeper_other *o)
{
	return o->free_since && clock_now() - o->free_since >= KEEPER_GRACE_MS * NSEC_PER_MSEC;
}

/* True when one is dead that was not before. */
static bool publish(struct keeper *k)
{
	int64_t dead[KEEPER_OTHERS];
	bool more = false;
	size_t n = 0;

	for (size_t i = 0; i < k->n_others; i++)
		if (is_dead(&k->others[i]))
			dead[n++] = k->others[i].number;
	pthread_mutex_lock(&k->lock);
	for (size_t i = 0; i < n; i++) {
		bool known = false;
		for (size_t j = 0; j < k->n_dead; j++)
			known |= k->dead[j] == dead[i];
		more |= !known;
	}
	memcpy(k->dead, dead, n * sizeof(dead[0]));
	k->n_dead = n;
	pthread_mutex_unlock(&k->lock);
	return more;
}

static void forget_unseen(struct keeper *k)
{
	size_t n = 0;

	for (size_t i = 0; i < k->n_others; i++)
		if (k->others[i].seen)
			k->others[n++] = k->others[i];
	k->n_others = n;
}

static int look(struct keeper *k, struct err *e)
{
	const struct context *x = k->context;
	int ret = 0;

	for (size_t i = 0; i < k->n_others; i++)
		k->others[i].seen = false;
	for (size_t i = 0; !ret && i < x->routes->n; i++)
		if (route_is_process(&x->routes->routes[i]))
			ret = find_others(k, &x->routes->routes[i], e);
	if (ret)
		return ret;
	forget_unseen(k);
	for (size_t i = 0; !ret && i < k->n_others; i++)
		ret = probe(k, &k->others[i], e);
	if (ret)
		return ret;
	if (publish(k)) {
		log_info("an instance is gone: what it left behind is taken over");
		scanner_look(x->scanner);
	}
	return 0;
}

static bool wanted(const struct keeper *k)
{
	/* acquire: pairs with keeper_leave */
	return stop_level(k->context->stop) == STOP_NONE ||
	       (stop_level(k->context->stop) == STOP_DRAIN &&
		atomic_load_explicit(&k->users, memory_order_acquire) > 0);
}

/* While draining its event stays readable, so the other one is waited for. */
static void rest(struct keeper *k, int64_t ms)
{
	struct stop *stop = k->context->stop;

	activity_set("resting");
	if (stop_level(stop) == STOP_NONE)
		(void)!event_wait(&stop->drain, clock_after_ms(ms));
	else
		(void)!event_wait(&stop->now, clock_after_ms(ms < DRAIN_LOOK_MS ? ms : DRAIN_LOOK_MS));
}

void keeper_run(void *arg)
{
	struct keeper *k = arg;
	struct outage outage = { 0 };
	struct err e;

	while (wanted(k)) {
		int ret = k->conn ? 0 : connect_keeper(k, &e);

		if (!ret)
			ret = look(k, &e);
		if (!ret) {
			outage_over(&outage, "connected again");
			rest(k, LOOK_MS);
			continue;
		}
		disconnect(k);
		if (ret == STRAND_ESTOPPED)
			break;
		(void)outage_failed(&outage, &e, "trying again");
		count(k->context, METRIC_RECONNECTS, METRIC_NO_ROUTE, 1);
		rest(k, AGAIN_MS);
	}
	disconnect(k);
}
