#include "work/worker.h"

#include <poll.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/clock.h"
#include "base/failpoint.h"
#include "base/log.h"
#include "base/backoff.h"
#include "work/batch.h"

#define IDLE_MS 1000
#define AGAIN_FIRST_MS 20
#define AGAIN_CAP_MS 5000
#define CONTENDED_CAP_MS 500	/* another instance has it, which takes no longer than a batch */
#define TRIES_CAP 30

int worker_init(struct worker *w, const struct context *x, struct again *again, unsigned number)
{
	const struct conf *conf = x->conf;

	*w = (struct worker){ .context = x, .again = again, .number = number };
	w->pool = (struct connpool){
		.targets = { x->target }, .routes = x->routes,
		.connect_timeout_ms = conf->db_connect_timeout_ms,
		.idle_timeout_ms = conf->db_idle_timeout_ms,
		.max_lifetime_ms = conf->db_max_lifetime_ms,
		.stop_fd = x->stop->now.fd,
	};
	for (int i = 0; i < 2; i++)
		w->items[i] = calloc((size_t)conf->workers_batch, sizeof(*w->items[i]));
	w->trouble = calloc(x->routes->n, sizeof(*w->trouble));
	return w->items[0] && w->items[1] && w->trouble ? 0 : STRAND_ENOMEM;
}

void worker_release(struct worker *w)
{
	free(w->items[0]);
	free(w->items[1]);
	free(w->trouble);
	*w = (struct worker){ 0 };
}

/* Interruptible by the first SIGTERM. */
static void pause_ms(struct worker *w, int64_t ms)
{
	(void)!event_wait(&w->context->stop->drain, clock_after_ms(ms));
}

static void put_off(struct worker *w, struct delivery *d, int64_t cap_ms)
{
	if (d->tries < TRIES_CAP)
		d->tries++;
	if (again_add(w->again, d, clock_after_ms(backoff_ms(d->tries, AGAIN_FIRST_MS, cap_ms))))
		queue_return(w->context->queue, d);
}

/* Each item goes where its state says: done with, or to be tried again. */
static void batch_end(struct worker *w, struct batch *b, bool ran)
{
	const struct context *x = w->context;
	unsigned route = b->route->index;
	uint64_t n[ITEM_STATES] = { 0 };

	for (size_t i = 0; i < b->n; i++) {
		struct delivery *d = b->items[i];
		n[b->states[i]]++;
		switch (b->states[i]) {
		case ITEM_TAKEN:
			put_off(w, d, ran ? CONTENDED_CAP_MS : AGAIN_CAP_MS);
			break;
		case ITEM_OURS:
		case ITEM_PUT_OFF:
			put_off(w, d, AGAIN_CAP_MS);
			break;
		case ITEM_GONE:
			queue_forget(x->queue, d);
			break;
		default:
			queue_finish(x->queue, d);
		}
	}
	count(x, METRIC_SETTLED, route, n[ITEM_SETTLED]);
	count(x, METRIC_FAILED, route, n[ITEM_FAILED]);
	count(x, METRIC_CONTENDED, route, ran ? n[ITEM_TAKEN] : 0);
	count(x, METRIC_PUT_OFF, route, n[ITEM_OURS] + n[ITEM_PUT_OFF] + (ran ? 0 : n[ITEM_TAKEN]));
	count(x, METRIC_BATCHES, route, b->committed);
	count(x, METRIC_ROLLBACKS, route, !ran && !b->committed);
	count(x, METRIC_REPLIES, route, b->committed ? b->replies : 0);
	count(x, METRIC_UNROUTED_TAGS, route, b->committed ? b->unrouted : 0);
}

/* The last batch is ended while the server is at work on the next one's claim: with
 * few workers its bookkeeping would keep a processor from the server. */
static void end_last(void *arg)
{
	struct worker *w = arg;

	if (!w->last.n)
		return;
	batch_end(w, &w->last, true);
	free(w->last.states);
	w->last.n = 0;
	/* What it put off must not wait until this worker has time again. */
	if (again_next(w->again) != INT64_MAX)
		queue_nudge(w->context->queue);
}

/* Is a strand of the batch to blame?  A race or a lack of resources is, the first
 * time, nobody's fault. */
static bool want_guards(const struct batch *b)
{
	if (b->fault == FAULT_HANDLER || b->fault == FAULT_CONFIGURATION)
		return true;
	for (size_t i = 0; b->stage == STAGE_HANDLE && i < b->n; i++)
		if (b->items[i]->tries)
			return true;
	return false;
}

/* First without guards, then with them; between the two the statements are built
 * anew, because the tables or the handler may have changed. */
static int attempt(struct worker *w, struct batch *b, struct session *s, struct err *e)
{
	int64_t timeout = w->context->conf->db_connect_timeout_ms;
	int ret = session_prepare(s, b->route, clock_after_ms(timeout), e);

	if (ret)
		return batch_failed(b, STAGE_PREPARE, ret, e);
	ret = batch_run(b, s, e);
	if (b->committed || ret != STRAND_ESQL || !conn_usable(s->conn) || !want_guards(b))
		return ret;
	log_debug("route %s: batch rolled back (%s), once more with guards", b->route->conf->tag, e->text);
	count(w->context, METRIC_ROLLBACKS, b->route->index, 1);
	ret = batch_failed(b, STAGE_CLAIM, batch_rollback(s, e), e);
	if (!ret)
		ret = batch_failed(b, STAGE_PREPARE, session_renew(s, b->route, clock_after_ms(timeout), e), e);
	return ret ? ret : batch_run_guarded(b, s, e);
}

static void outage(struct worker *w, const struct err *e)
{
	int64_t ms;

	if (e->code == STRAND_ESTOPPED)
		return;
	ms = outage_failed(&w->outage, e, "trying again");
	count(w->context, METRIC_RECONNECTS, METRIC_NO_ROUTE, 1);
	pause_ms(w, ms);
}

static void tell_trouble(struct worker *w, const struct batch *b, const char *who, enum fault fault,
			 const struct err *e)
{
	char what[160];

	snprintf(what, sizeof(what), "route %s: %s put off (%s%s%s)", b->route->conf->tag, who,
		 outcome_name(fault), *e->sqlstate ? ", SQLSTATE " : "", e->sqlstate);
	outage_failed(&w->trouble[b->route->index], e, what);
}

/* A batch that was committed: did it get anywhere? */
static void tell_success(struct worker *w, const struct batch *b)
{
	if (b->why.code)
		tell_trouble(w, b, "strand", b->why_fault, &b->why);
	for (size_t i = 0; !b->why.code && i < b->n; i++) {
		if (b->states[i] != ITEM_SETTLED && b->states[i] != ITEM_FAILED)
			continue;
		outage_over(&w->trouble[b->route->index], "the one before was put off, this one is settled");
		return;
	}
}

/* The session after a batch that failed: rolled back, or thrown away.  An earlier
 * handler may have spoilt it, by DEALLOCATE or a statement_timeout of its own, say,
 * so at the first such fault in a row it is not kept. */
static void clean_up(struct worker *w, struct batch *b, struct session *s, int ret, struct err *e)
{
	bool suspect = b->fault == FAULT_CONFIGURATION || b->fault == FAULT_RESOURCES;
	struct outage *trouble = &w->trouble[b->route->index];
	struct err ignored;

	if (ret == STRAND_ETIMEOUT && b->stage != STAGE_COMMIT)
		conn_kill(s->conn, true);
	if (b->fault == FAULT_CONNECTION && b->stage == STAGE_HANDLE)
		for (size_t i = 0; i < b->n; i++)
			b->items[i]->alone = true;
	if ((suspect && !trouble->failures) || !conn_usable(s->conn) || batch_rollback(s, &ignored))
		connpool_discard(&w->pool, 0);
	if (ret == STRAND_ESTOPPED)
		return;
	tell_trouble(w, b, "batch", b->fault, e);
}

/* One transaction for these deliveries. */
static void work_on(struct worker *w, unsigned route, struct delivery **items, size_t n)
{
	const struct context *x = w->context;
	struct batch b = { .context = x, .route = &x->routes->routes[route], .n = n,
			   .items = items, .states = calloc(n, sizeof(*b.states)),
			   .meanwhile = end_last, .arg = w };
	struct session *s = NULL;
	struct err e = { 0 };
	int ret = b.states ? connpool_get(&w->pool, 0, &s, &e) : err_set(&e, STRAND_ENOMEM, "out of memory");

	if (ret) {
		end_last(w);	/* before its items' room is used again */
		for (size_t i = 0; i < n; i++)
			put_off(w, items[i], AGAIN_CAP_MS);
		free(b.states);
		outage(w, &e);
		return;
	}
	outage_over(&w->outage, "connected again");
	ret = attempt(w, &b, s, &e);
	if (ret)
		clean_up(w, &b, s, ret, &e);
	else
		tell_success(w, &b);
	end_last(w);
	if (!ret) {
		w->last = b;
		return;
	}
	batch_end(w, &b, false);
	free(b.states);
}

/* A strand whose handling cost a connection may cost the next one too, so it goes
 * without others. */
static void work(struct worker *w, unsigned route, struct delivery **items, size_t n)
{
	size_t together = 0;

	for (size_t i = 0; i < n; i++) {
		struct delivery *d = items[i];
		if (!d->alone) {
			items[i] = items[together];
			items[together++] = d;
		}
	}
	if (together)
		work_on(w, route, items, together);
	for (size_t i = together; i < n; i++) {
		if (stop_level(w->context->stop) == STOP_NONE)
			work_on(w, route, &items[i], 1);
		else
			queue_return(w->context->queue, items[i]);
	}
}

static int64_t wake_at(const struct worker *w)
{
	int64_t idle = clock_after_ms(IDLE_MS), due = again_next(w->again);

	return due < idle ? due : idle;
}

void worker_run(void *arg)
{
	struct worker *w = arg;
	const struct context *x = w->context;
	unsigned route;
	size_t n;

	while (stop_level(x->stop) == STOP_NONE) {
		if (FAILPOINT("worker.take"))
			continue;
		again_return_due(w->again, x->queue, clock_now());
		w->in_hand = !w->in_hand;
		n = queue_take(x->queue, w->number, w->items[w->in_hand],
			       (size_t)x->conf->workers_batch, &route);
		if (n) {
			/* What is put off must not wait until we have time again. */
			if (again_next(w->again) != INT64_MAX)
				queue_nudge(x->queue);
			work(w, route, w->items[w->in_hand], n);
			queue_leave(x->queue, route);
			continue;
		}
		end_last(w);
		connpool_tidy(&w->pool, clock_now());
		(void)!queue_wait(x->queue, w->number, wake_at(w), x->stop->drain.fd);
	}
	end_last(w);
	connpool_release(&w->pool);
}
