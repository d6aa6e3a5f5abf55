#include "work/run.h"

#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "base/log.h"
#include "work/process.h"

/* Is a strand of the batch to blame?  A race or a lack of resources is, the first
 * time, nobody's fault. */
static bool want_guards(const struct batch *b)
{
	if (b->fault == FAULT_HANDLER || b->fault == FAULT_CONFIGURATION)
		return true;
	/* A deferred constraint's trigger fails at COMMIT; with guards where it is checked. */
	for (size_t i = 0; (b->stage == STAGE_HANDLE || b->stage == STAGE_COMMIT) && i < b->n; i++)
		if (b->items[i]->tries)
			return true;
	return false;
}

/* Another batch of a serial route came in between: what failed without guards is not
 * to do so again. */
static void remember_guards(struct batch *b)
{
	for (size_t i = 0; i < b->n; i++)
		if (b->states[i] == ITEM_TAKEN)
			b->items[i]->guards = true;
}

static bool guards_remembered(const struct batch *b)
{
	for (size_t i = 0; i < b->n; i++)
		if (b->items[i]->guards)
			return true;
	return false;
}

/* First without guards, then with them; between the two the statements are built
 * anew, because the tables or the handler may have changed. */
static int run_together(struct worker *w, struct batch *b, struct session *s, struct err *e)
{
	int64_t timeout = w->context->conf->db_connect_timeout_ms;
	int ret = batch_run(b, s, e);

	if (b->committed || ret != STRAND_ESQL || !conn_usable(s->conn) || !want_guards(b))
		return ret;
	log_debug("route %s: batch rolled back (%s), once more with guards", b->route->conf->tag, e->text);
	count(w->context, METRIC_ROLLBACKS, b->route->index, 1);
	ret = batch_failed(b, STAGE_CLAIM, batch_rollback(s, e), e);
	if (!ret)
		ret = batch_failed(b, STAGE_PREPARE, session_renew(s, b->route, clock_after_ms(timeout), e), e);
	ret = ret ? ret : batch_run_guarded(b, s, e);
	if (!ret)
		remember_guards(b);
	return ret;
}

static int charge_loss(struct batch *b, struct session *s, struct err *e)
{
	struct delivery *d = b->items[0];
	struct err why = { .code = STRAND_ECONN };
	int ret;

	err_set(&why, STRAND_ECONN, "%s", !strcmp(d->lost, "57014")
		? "the handler did not end in time (workers.handler_timeout), and its session was ended"
		: !strncmp(d->lost, "08", 2) || !strncmp(d->lost, "57P", 3) ? "the session ended while the handler ran"
		: "the handler's transaction failed at its COMMIT");
	memcpy(why.sqlstate, d->lost, sizeof(why.sqlstate));
	ret = batch_charge_lease(b, s, &why, e);
	if (!ret && b->committed) {
		d->leased = 0;
		d->lost[0] = '\0';
	}
	return ret;
}

static int run_alone(struct batch *b, struct session *s, struct err *e)
{
	struct delivery *d = b->items[0];
	int ret;

	if (d->lost[0] && !b->probe)
		return charge_loss(b, s, e);
	/* A probe is charged nothing: without a lease it costs the route's next look. */
	if (!d->leased && !b->probe) {
		ret = batch_lease(b, s, e);
		if (ret || !d->leased)
			return ret;
	}
	ret = batch_run_guarded(b, s, e);
	/* Given back. */
	if (!ret && (b->states[0] == ITEM_PUT_OFF || b->states[0] == ITEM_TAKEN))
		d->leased = 0;
	return ret;
}

/* Did the run of a strand that goes alone leave its lease as it was? */
static bool lease_is_open(const struct worker *w, const struct batch *b)
{
	return !w->child && b->n == 1 && b->items[0]->leased &&
	       (b->states[0] == ITEM_TAKEN || b->states[0] == ITEM_OURS || b->states[0] == ITEM_PUT_OFF);
}

/* A lease does not outlive its run.  Its strand may wait for long behind others, or in
 * a suspended route, or in a service that ends, and other instances would take the lease
 * for that of a dead one and charge it.  So this comes before all else, also before a
 * server that is away: an instance that meets the lease while this waits has a young
 * session, too, and leaves it (LEASE_SESSION_MS).  What cannot be given back is taken up
 * as it stands by the next lease. */
bool worker_end_lease(struct worker *w, struct batch *b)
{
	const struct context *x = w->context;
	struct delivery *d = b->items[0];
	struct session *s = NULL;
	bool to_charge = d->lost[0];
	/* Why the run failed is still to be judged. */
	enum stage stage = b->stage;
	enum fault fault = b->fault;
	struct err e, ignored;
	int ret;

	if (!lease_is_open(w, b))
		return false;
	while ((ret = connpool_get(&w->pool, 0, &s, &e)) && stop_level(x->stop) == STOP_NONE)
		worker_outage(w, &e);
	if (!ret)
		ret = session_prepare(s, b->route, clock_after_ms(x->conf->db_connect_timeout_ms), &e);
	if (!ret && to_charge)
		ret = charge_loss(b, s, &e);
	else if (!ret)
		ret = batch_give_back(b, s, 0, &e);
	if (ret && s && (!conn_usable(s->conn) || batch_rollback(s, &ignored)))
		connpool_discard(&w->pool, 0);
	if (ret)
		log_debug("route %s: a lease is left (%s)", b->route->conf->tag, e.text);
	if (!to_charge)
		d->leased = 0;
	b->stage = stage;
	b->fault = fault;
	return !ret && to_charge && b->committed;
}

int batch_attempt(struct worker *w, struct batch *b, struct session **at, struct err *e)
{
	struct session *s = *at;
	int ret = session_prepare(s, b->route, clock_after_ms(w->context->conf->db_connect_timeout_ms), e);

	if (ret)
		return batch_failed(b, STAGE_PREPARE, ret, e);
	if (w->child)
		return process_attempt(w, b, at, e);
	if (b->items[0]->alone)
		return run_alone(b, s, e);
	return b->probe || guards_remembered(b) ? batch_run_guarded(b, s, e) : run_together(w, b, s, e);
}

/* A strand may have cost the session that handled it: it goes alone from now on, and
 * one that did is charged. */
static void go_alone(struct batch *b, int ret, const struct err *e)
{
	for (size_t i = 0; i < b->n; i++) {
		struct delivery *d = b->items[i];

		if (d->leased && (ret == STRAND_ETIMEOUT || ++d->losses >= FREE_LOSSES))
			snprintf(d->lost, sizeof(d->lost), "%s", ret == STRAND_ETIMEOUT ? "57014"
				 : *e->sqlstate ? e->sqlstate : "08006");
		d->alone = true;
	}
}

/* Was it the handler, or a trigger that runs at COMMIT, that ended the session?  An
 * error of such a class that is raised leaves it alive. */
static bool ended_by_strand(const struct batch *b, int ret)
{
	if (b->fault != FAULT_CONNECTION || ret == STRAND_ESQL || ret == STRAND_ESTOPPED)
		return false;
	return b->stage == STAGE_HANDLE || (b->stage == STAGE_COMMIT && ret != STRAND_ETIMEOUT);
}

/* An earlier handler may have spoilt a session that served the route well before, by
 * DEALLOCATE or a statement_timeout of its own, say. */
static bool session_to_blame(const struct batch *b, const struct session *s, const struct err *e)
{
	if (s->spoilt || session_lost_statements(e))
		return true;
	return s->routes[b->route->index].served && b->stage < STAGE_HANDLE &&
	       (b->fault == FAULT_CONFIGURATION || b->fault == FAULT_RESOURCES);
}

void batch_clean_up(struct worker *w, struct batch *b, struct session *s, int ret, struct err *e)
{
	int64_t deadline = clock_after_ms(w->context->conf->db_connect_timeout_ms);
	struct err ignored;

	if (ret == STRAND_ETIMEOUT && b->stage != STAGE_COMMIT)
		conn_kill(s->conn, true);
	if (ended_by_strand(b, ret))
		go_alone(b, ret, e);
	if (b->stage == STAGE_COMMIT && ret == STRAND_ESQL && !w->child)
		batch_blame_commit(b, s, e);
	b->session_to_blame = session_to_blame(b, s, e);
	if (b->session_to_blame || !conn_usable(s->conn) || batch_rollback(s, &ignored) ||
	    session_scrub(s, deadline, &ignored))
		connpool_discard(&w->pool, 0);
	if (ret != STRAND_ESTOPPED)
		worker_tell_trouble(w, b, "batch", b->fault, e);
}
