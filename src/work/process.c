#include "work/process.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/activity.h"
#include "base/buf.h"
#include "base/clock.h"
#include "base/failpoint.h"
#include "base/log.h"
#include "instance/keeper.h"
#include "strand/suspension.h"

#define READY_MS 1000
#define FAILED_STARTS 3		/* in a row, that suspend the route */
#define SETTLE_AGAIN_MS 1000

/* --- is it there? ------------------------------------------------------------- */

static void tell_no_start(struct worker *w, const struct route *r, const struct err *why)
{
	struct suspensions *all = w->context->suspensions;

	if (child_is_hopeless(w->child, FAILED_STARTS) && !suspension_on(all, r->index))
		worker_suspend(w, r, why);
}

bool process_ready(struct worker *w)
{
	const struct context *x = w->context;
	const struct route *r = &x->routes->routes[w->route];
	struct err e;
	int ret;

	child_tidy(w->child);
	activity_set_on("waiting for its process", r->conf->tag, 0, 0);
	ret = child_wait(w->child, clock_after_ms(READY_MS), x->stop->drain.fd, &e);
	if (ret == STRAND_EINVAL) {
		tell_no_start(w, r, &e);
		(void)!event_wait(&x->stop->drain, clock_after_ms(READY_MS));
	}
	if (!ret && !keeper_term(x->keeper)) {
		activity_set("waiting for the keeper");
		(void)!event_wait(&x->stop->drain, clock_after_ms(READY_MS / 10));
		return false;
	}
	return !ret;
}

/* --- handing out -------------------------------------------------------------- */

static void note_handed_out(struct batch *b, const size_t *positions, const PGresult *res)
{
	const struct conf_route *conf = b->route->conf;

	for (int i = 0; i < PQntuples(res); i++) {
		size_t at = positions[strtoul(PQgetvalue(res, i, 0), NULL, 10) - 1];
		const char *state = PQgetvalue(res, i, 1);
		unsigned odd = (unsigned)atoi(PQgetvalue(res, i, 4));

		b->odd_timeouts += odd;
		b->odd_item = odd ? at : b->odd_item;
		if (*state == 'r') {
			b->items[at]->leased = (unsigned)atoi(PQgetvalue(res, i, 2));
			continue;
		}
		b->states[at] = *state == 'e' ? ITEM_EXPIRED : ITEM_FAILED;
		if (*state == 'f')
			log_event(LOG_LEVEL_ERROR, &(const struct log_fields){ .route = conf->tag,
				  .source = conf->source, .strand = b->items[at]->id,
				  .attempt = atoi(PQgetvalue(res, i, 2)) },
				  "strand failed for good: the service ended while its handler ran");
	}
}

static int send_hand_out(struct batch *b, struct session *s, const char *ids, struct err *e)
{
	struct buf dead = BUF_INIT;
	const char *values[] = { ids, b->context->routes->instance_text, NULL };
	int ret;

	buf_init(&dead);
	keeper_list_dead(b->context->keeper, &dead);
	values[2] = dead.data;
	ret = dead.failed ? err_set(e, STRAND_ENOMEM, "out of memory") : conn_pipeline_enter(s->conn, e);
	if (!ret)
		ret = conn_send_prepared(s->conn, s->routes[b->route->index].hand_out, 3, values, e);
	if (!ret)
		ret = batch_send_commit(s, e);
	if (!ret)
		ret = conn_sync(s->conn, e);
	buf_release(&dead);
	return ret;
}

/* One round trip: what is handed out is committed before its process sees it. */
static int hand_out(struct process_batch *p, struct session *s, const char *ids, struct err *e)
{
	struct batch *b = p->batch;
	int ret;

	p->asked_at = clock_now();
	ret = batch_failed(b, STAGE_CLAIM, send_hand_out(b, s, ids, e), e);

	if (!ret && FAILPOINT("handout.sent"))
		ret = batch_failed(b, STAGE_COMMIT, err_set(e, STRAND_ECONN, "failpoint handout.sent"), e);
	if (ret)
		return batch_leave(s, ret);
	ret = batch_finish(b, s, 0, STAGE_CLAIM, &p->rows, e);
	if (!ret && FAILPOINT("handout.committed"))
		ret = batch_failed(b, STAGE_COMMIT, err_set(e, STRAND_ECONN, "failpoint handout.committed"), e);
	if (!ret)
		note_handed_out(b, p->places, p->rows);
	return ret;
}

static int claim_and_hand_out(struct process_batch *p, struct session *s, struct err *e)
{
	struct batch *b = p->batch;
	struct buf ids = BUF_INIT;
	int ret = batch_claim(b, s, e);
	size_t ours;

	buf_init(&ids);
	ours = ret ? 0 : batch_list_ours(b, p->places, &ids);
	if (!ret && ids.failed)
		ret = batch_failed(b, STAGE_CLAIM, err_set(e, STRAND_ENOMEM, "out of memory"), e);
	if (!ret && !ours)
		ret = batch_failed(b, STAGE_CLAIM, batch_rollback(s, e), e);
	else if (!ret)
		ret = hand_out(p, s, ids.data, e);
	buf_release(&ids);
	return ret;
}

/* --- the exchange ------------------------------------------------------------- */

/* A process that is sent a strand late, because we were stopped, or the one before took
 * its time, is not to handle what others have taken over. */
static bool is_leased(const void *arg)
{
	const struct process_batch *p = arg;

	return keeper_term(p->keeper) == p->term;
}

/* Whoever waits for those before it in the batch may expire meanwhile. */
static int64_t send_before(const struct process_batch *p, int row)
{
	if (PQgetisnull(p->rows, row, 5))
		return 0;
	return p->asked_at + strtoll(PQgetvalue(p->rows, row, 5), NULL, 10) * NSEC_PER_MSEC;
}

/* One request for each row that was answered; `places` becomes theirs. */
static int make_requests(struct process_batch *p, struct err *e)
{
	struct batch *b = p->batch;
	int rows = p->rows ? PQntuples(p->rows) : 0;

	p->exchange = (struct exchange){ .tag = b->route->conf->tag, .source = b->route->conf->source,
					 .may_send = is_leased, .arg = p };
	if (!rows)
		return 0;
	p->exchange.requests = calloc((size_t)rows, sizeof(*p->exchange.requests));
	if (!p->exchange.requests)
		return batch_failed(b, STAGE_HANDLE, err_set(e, STRAND_ENOMEM, "out of memory"), e);
	for (int i = 0; i < rows; i++) {
		size_t at = p->places[strtoul(PQgetvalue(p->rows, i, 0), NULL, 10) - 1];
		if (b->states[at] == ITEM_OURS)
			p->exchange.requests[p->exchange.n++] = (struct request){
				.id = b->items[at]->id, .attempt = b->items[at]->leased,
				.row = PQgetvalue(p->rows, i, 3), .row_len = (size_t)PQgetlength(p->rows, i, 3),
				.send_before = send_before(p, i), .place = at };
	}
	return 0;
}

static void exchange(struct worker *w, struct process_batch *p)
{
	struct stop *stop = w->context->stop;
	struct err e;

	if (!p->exchange.n)
		return;
	activity_set_on("handling", p->exchange.tag, 0, (unsigned)p->exchange.n);
	if (child_exchange(w->child, &p->exchange, stop->drain.fd, stop->now.fd, &e) && !p->exchange.lost.code)
		p->exchange.lost = e;
	for (size_t i = 0; i < p->exchange.n; i++)
		p->n_lost += p->exchange.requests[i].state == REQUEST_LOST;
}

/* --- settling until it stands -------------------------------------------------- */

/* The answers are in memory alone, so they are settled as soon as the server is there,
 * by this worker, which has nothing better to do. */
static int settle(struct worker *w, struct process_batch *p, struct session **s, struct err *e)
{
	struct batch *b = p->batch;
	struct stop *stop = w->context->stop;
	int64_t connect_ms = w->context->conf->db_connect_timeout_ms;
	int ret = process_settle(p, *s, e);

	while (ret) {
		for (size_t i = 0; i < p->exchange.n; i++)
			b->items[p->exchange.requests[i].place]->in_doubt |= b->fault == FAULT_CONNECTION;
		if (b->stage == STAGE_HANDLE)
			b->stage = STAGE_CLAIM;		/* no handler has ended this session */
		batch_clean_up(w, b, *s, ret, e);
		*s = NULL;	/* it may be gone */
		do {
			if (stop_level(stop) == STOP_NOW)
				return err_set(e, STRAND_ESTOPPED, "told to stop before the answers were settled");
			(void)!event_wait(&stop->now, clock_after_ms(SETTLE_AGAIN_MS));
			*s = NULL;
			ret = connpool_get(&w->pool, 0, s, e);
			if (!ret)
				ret = session_prepare(*s, b->route, clock_after_ms(connect_ms), e);
		} while (ret);
		ret = process_settle(p, *s, e);
	}
	return 0;
}

/* The receipts have it all now. */
static void forget_leases(struct process_batch *p)
{
	for (size_t i = 0; i < p->exchange.n; i++) {
		struct delivery *d = p->batch->items[p->exchange.requests[i].place];

		d->leased = 0;
		d->lost[0] = '\0';
	}
}

int process_attempt(struct worker *w, struct batch *b, struct session **s, struct err *e)
{
	const struct keeper *keeper = w->context->keeper;
	struct process_batch p = { .batch = b, .once = b->route->conf->delivery == DELIVERY_AT_MOST_ONCE,
				   .keeper = keeper, .term = keeper_term(keeper) };
	uint64_t odd;
	int ret;

	if (!p.term)
		return batch_failed(b, STAGE_CLAIM, err_set(e, STRAND_ECONN, "the keeper has lost its session"), e);
	p.places = calloc(b->n, sizeof(*p.places));
	if (!p.places)
		return batch_failed(b, STAGE_CLAIM, err_set(e, STRAND_ENOMEM, "out of memory"), e);
	(void)FAILPOINT("handout.before");
	ret = claim_and_hand_out(&p, *s, e);
	if (ret)
		batch_undo(b);
	if (!ret)
		ret = make_requests(&p, e);
	odd = b->odd_timeouts;
	if (!ret && p.exchange.n) {
		exchange(w, &p);
		ret = settle(w, &p, s, e);
		if (!ret)
			forget_leases(&p);
		b->odd_timeouts = odd;
	}
	exchange_release(&p.exchange);
	free(p.exchange.requests);
	PQclear(p.rows);
	free(p.places);
	return ret ? ret : batch_examine(b, *s, e);
}
