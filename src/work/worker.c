#include "work/worker.h"

#include <stdlib.h>

#include "base/activity.h"
#include "base/clock.h"
#include "base/failpoint.h"
#include "base/log.h"
#include "strand/suspension.h"
#include "work/process.h"
#include "work/run.h"

#define IDLE_MS 1000
#define READY_AGAIN_MS 10000	/* when it could not be made ready */
#define PROBE_STRANDS 10
#define PACE_WEIGHT 8		/* of the past, against one batch */

static size_t largest_batch(const struct context *x)
{
	int most = x->conf->workers_batch;

	for (size_t i = 0; i < x->routes->n; i++)
		if (x->routes->routes[i].conf->batch > most)
			most = x->routes->routes[i].conf->batch;
	return (size_t)most;
}

int worker_init(struct worker *w, const struct context *x, struct queue *q, struct again *again,
		unsigned number, struct child *child, unsigned route)
{
	const struct conf *conf = x->conf;

	*w = (struct worker){ .context = x, .queue = q, .again = again, .number = number,
			      .child = child, .route = route, .max_batch = largest_batch(x),
			      .reserved = !child && number < (unsigned)conf->workers_reserved_for_high };
	w->pool = (struct connpool){
		.targets = { x->target }, .routes = x->routes,
		.connect_timeout_ms = conf->db_connect_timeout_ms,
		.idle_timeout_ms = w->reserved ? 0 : conf->db_idle_timeout_ms,
		.max_lifetime_ms = conf->db_max_lifetime_ms,
		.stop_fd = x->stop->now.fd,
	};
	for (int i = 0; i < 2; i++)
		w->items[i] = calloc(w->max_batch, sizeof(*w->items[i]));
	w->trouble = calloc(x->routes->n, sizeof(*w->trouble));
	w->pace = calloc(x->routes->n, sizeof(*w->pace));
	return w->items[0] && w->items[1] && w->trouble && w->pace ? 0 : STRAND_ENOMEM;
}

void worker_release(struct worker *w)
{
	free(w->items[0]);
	free(w->items[1]);
	free(w->trouble);
	free(w->pace);
	*w = (struct worker){ 0 };
}

/* Interruptible by the first SIGTERM. */
static void pause_ms(struct worker *w, int64_t ms)
{
	activity_set("waiting to connect again");
	(void)!event_wait(&w->context->stop->drain, clock_after_ms(ms));
}

/* The last batch is ended while the server is at work on the next one's claim: with
 * few workers its bookkeeping would keep a processor from the server. */
static void end_last(void *arg)
{
	struct worker *w = arg;

	if (!w->last.n)
		return;
	batch_end(w, &w->last, true);
	batch_release(&w->last);
	w->last.n = 0;
	/* What it put off must not wait until this worker has time again. */
	if (again_next(w->again) != INT64_MAX)
		queue_nudge(w->queue);
}

void worker_outage(struct worker *w, const struct err *e)
{
	int64_t ms;

	if (e->code == STRAND_ESTOPPED)
		return;
	ms = outage_failed(&w->outage, e, "trying again");
	count(w->context, METRIC_RECONNECTS, METRIC_NO_ROUTE, 1);
	pause_ms(w, ms);
}

/* A batch that was committed: did it get anywhere? */
static void tell_success(struct worker *w, const struct batch *b)
{
	const struct log_fields fields = { .route = b->route->conf->tag, .source = b->route->conf->source };

	if (b->why.code)
		worker_tell_trouble(w, b, "strand", b->why_fault, &b->why);
	for (size_t i = 0; !b->why.code && i < b->n; i++) {
		if (b->states[i] != ITEM_SETTLED && b->states[i] != ITEM_FAILED && b->states[i] != ITEM_RETRY)
			continue;
		outage_over_on(&w->trouble[b->route->index], &fields, "batches of the route are settled again");
		return;
	}
}

/* A batch has to be over well before its deadline: what a strand of the route takes
 * is learnt from the batches that were. */
static void learn_pace(struct worker *w, const struct batch *b, int64_t took, int ret)
{
	int64_t *pace = &w->pace[b->route->index], each = took / (int64_t)b->n;

	if (!ret)
		*pace += (each - *pace) / (each > *pace ? 1 : PACE_WEIGHT);
	else if (b->fault == FAULT_HANDLER || ret == STRAND_ETIMEOUT)
		*pace = each > *pace ? each : *pace;
}

/* How many of `n` deliveries fit into half of the time that a batch has. */
static size_t keep_pace(const struct worker *w, unsigned route, size_t n)
{
	int64_t half = w->context->conf->handler_timeout_ms * NSEC_PER_MSEC / 2, pace = w->pace[route];
	int64_t fit = pace ? half / pace : (int64_t)n;

	return fit >= (int64_t)n ? n : fit > 1 ? (size_t)fit : 1;
}

static bool handler_failed(const struct batch *b)
{
	for (size_t i = 0; i < b->n; i++)
		if (b->states[i] == ITEM_RETRY || b->states[i] == ITEM_FAILED || b->states[i] == ITEM_PUT_OFF)
			return true;
	return false;
}

static void run_batch(struct worker *w, struct batch *b, struct session *s)
{
	struct err e = { 0 };
	int64_t start = clock_now();
	int ret = batch_attempt(w, b, &s, &e);

	learn_pace(w, b, clock_now() - start, ret);
	if (ret && s)
		batch_clean_up(w, b, s, ret, &e);
	else if (!ret)
		tell_success(w, b);
	if (!ret && s)
		s->routes[b->route->index].served |= b->committed;
	if (!ret && !w->child && handler_failed(b) &&
	    (session_lost_statements(&b->why) ||
	     session_scrub(s, clock_after_ms(w->context->conf->db_connect_timeout_ms), &e)))
		connpool_discard(&w->pool, 0);
	end_last(w);
	if (worker_end_lease(w, b))
		ret = 0;
	worker_judge_route(w, b, ret, &e);
	if (!ret && !b->probe && b->due_ms == INT64_MAX) {
		w->last = *b;
		return;
	}
	batch_end(w, b, !ret);
	batch_release(b);
}

/* One transaction for these deliveries, or a few. */
static void work_on(struct worker *w, unsigned route, struct delivery **items, size_t n, bool probe)
{
	const struct context *x = w->context;
	struct batch b = { .context = x, .route = &x->routes->routes[route], .n = n, .probe = probe,
			   .items = items, .states = calloc(n, sizeof(*b.states)),
			   .meanwhile = end_last, .arg = w, .due_ms = INT64_MAX };
	struct session *s = NULL;
	struct err e = { 0 };
	int ret = b.states ? connpool_get(&w->pool, 0, &s, &e) : err_set(&e, STRAND_ENOMEM, "out of memory");

	if (!ret) {
		outage_over(&w->outage, "connected again");
		run_batch(w, &b, s);
		return;
	}
	end_last(w);	/* before its items' room is used again */
	for (size_t i = 0; i < n; i++)
		worker_put_off(w, items[i], AGAIN_CAP_MS);
	batch_release(&b);
	worker_outage(w, &e);
}

/* A strand whose handling cost a connection may cost the next one too, so it goes
 * without others; and as many of them as there is time for, as with a batch, while
 * nothing urgent waits. */
static void work(struct worker *w, unsigned route, struct delivery **items, size_t n, bool probe)
{
	struct queue *q = w->queue;
	int64_t enough = clock_after_ms(w->context->conf->handler_timeout_ms / 2);
	size_t together = 0, fit;

	for (size_t i = 0; i < n; i++) {
		struct delivery *d = items[i];
		if (!d->alone) {
			items[i] = items[together];
			items[together++] = d;
		}
	}
	fit = w->child ? together : keep_pace(w, route, together);
	if (fit)
		work_on(w, route, items, fit, probe);
	for (size_t i = fit; i < together; i++)
		queue_return(q, items[i]);
	for (size_t i = together; i < n; i++) {
		/* Those before may have taken all the time, and more of them, or urgent ones, may
		 * come all the while: so one has its turn in any case. */
		bool first = i == together;

		if (stop_level(w->context->stop) == STOP_NONE && (first || clock_now() < enough) &&
		    (first || items[i]->high || !queue_high_waits(q)) &&
		    (!w->child || child_is_up(w->child)) &&
		    !suspension_on(w->context->suspensions, route) == !probe)
			work_on(w, route, &items[i], 1, probe);
		else {
			/* Nothing may have run, and the last batch's items would be
			 * written over by the next take. */
			end_last(w);
			queue_return(q, items[i]);
		}
	}
}

/* A few strands of a suspended route, if one is to be probed. */
static void probe(struct worker *w)
{
	const struct context *x = w->context;
	size_t max = (size_t)x->conf->workers_batch;
	int route = suspension_due(x->suspensions, w->queue, clock_now());
	size_t n;

	if (route < 0)
		return;
	/* The last batch's items are in the other half until it is ended. */
	n = queue_take_closed(w->queue, (unsigned)route, w->items[!w->in_hand],
			      max < PROBE_STRANDS ? max : PROBE_STRANDS);
	if (!n) {
		suspension_probed(x->suspensions, (unsigned)route, false);
		return;
	}
	w->in_hand = !w->in_hand;
	w->probe_tried = false;
	work(w, (unsigned)route, w->items[w->in_hand], n, true);
	suspension_probed(x->suspensions, (unsigned)route, w->probe_tried);
	queue_leave(w->queue, (unsigned)route);
}

/* A high strand must not wait for a connection and for statements to be prepared.
 * Quietly: whoever has work to do will tell what is wrong. */
static void keep_ready(struct worker *w)
{
	const struct context *x = w->context;
	int64_t deadline = clock_after_ms(x->conf->db_connect_timeout_ms);
	struct session *s;
	struct err e;
	int ret;

	if (!w->reserved || clock_now() < w->ready_at)
		return;
	ret = connpool_get(&w->pool, 0, &s, &e);
	for (size_t i = 0; !ret && i < x->routes->n; i++)
		ret = session_prepare(s, &x->routes->routes[i], deadline, &e);
	w->ready_at = clock_after_ms(ret ? READY_AGAIN_MS : IDLE_MS);
}

static int64_t wake_at(const struct worker *w)
{
	int64_t at = clock_after_ms(IDLE_MS), due = again_next(w->again);
	int64_t next = w->reserved ? INT64_MAX : suspension_next(w->context->suspensions, w->queue);

	at = due < at ? due : at;
	return next < at ? next : at;
}

/* Its process may be long in coming: what the last one left, and what woke this worker,
 * is for the others of its crew. */
static void hand_on(struct worker *w)
{
	end_last(w);
	queue_nudge(w->queue);
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
		if (w->child && !child_is_up(w->child))
			hand_on(w);
		if (w->child && !process_ready(w))
			continue;
		again_return_due(w->again, w->queue, clock_now());
		if (!w->reserved)
			probe(w);
		w->in_hand = !w->in_hand;
		n = queue_take(w->queue, w->number, w->items[w->in_hand], w->max_batch, &route);
		if (n) {
			/* What is put off must not wait until we have time again. */
			if (again_next(w->again) != INT64_MAX)
				queue_nudge(w->queue);
			work(w, route, w->items[w->in_hand], n, false);
			queue_leave(w->queue, route);
			continue;
		}
		end_last(w);
		connpool_tidy(&w->pool, clock_now());
		keep_ready(w);
		activity_set("idle");
		(void)!queue_wait(w->queue, w->number, wake_at(w), x->stop->drain.fd);
	}
	end_last(w);
	connpool_release(&w->pool);
}
