/* The second transaction of a process's batch: what was answered is settled, what
 * failed is charged, and what was not tried is given back. */
#include "work/process.h"

#include <stdio.h>
#include <string.h>

#include "base/activity.h"
#include "base/buf.h"
#include "base/clock.h"
#include "base/failpoint.h"
#include "pg/array.h"
#include "strand/suspension.h"
#include "work/process_rules.h"
#include "work/receipt.h"

/* So often an answer of a batch may lack a lock or a resource, or lose a race, a second
 * apart: what its handler has done is worth more than another try of it. */
#define FREE_ANSWER_RACES 30
/* $1, $3 and $4 of `settle`. */
struct answers {
	struct buf ids, attempts, replies;
};

static void answers_begin(struct answers *a)
{
	buf_init(&a->ids);
	buf_init(&a->attempts);
	buf_init(&a->replies);
	array_begin(&a->ids);
	array_begin(&a->attempts);
	array_begin(&a->replies);
}

static void answers_add(struct answers *a, const struct request *q)
{
	char attempt[16];
	int len = snprintf(attempt, sizeof(attempt), "%u", q->attempt);

	array_item(&a->ids, q->id, strlen(q->id));
	array_item(&a->attempts, attempt, (size_t)len);
	array_item(&a->replies, q->text, q->text_len);
}

static int answers_end(struct answers *a, struct err *e)
{
	array_end(&a->ids);
	array_end(&a->attempts);
	array_end(&a->replies);
	return a->ids.failed || a->attempts.failed || a->replies.failed ?
		err_set(e, STRAND_ENOMEM, "out of memory") : 0;
}

static void answers_release(struct answers *a)
{
	buf_release(&a->ids);
	buf_release(&a->attempts);
	buf_release(&a->replies);
}

/* --- all at once -------------------------------------------------------------- */

static int send_together(struct batch *b, struct session *s, const struct answers *a, struct err *e)
{
	const char *values[] = { a->ids.data, b->context->routes->instance_text, a->attempts.data, a->replies.data };
	int ret = conn_pipeline_enter(s->conn, e);

	if (!ret)
		ret = conn_send_prepared(s->conn, s->routes[b->route->index].begin, 0, NULL, e);
	if (!ret)
		ret = batch_send_settings(b, s, e);
	if (!ret)
		ret = conn_send_prepared(s->conn, s->routes[b->route->index].settle, 4, values, e);
	if (!ret)
		ret = batch_send_commit(s, e);
	return ret ? ret : conn_sync(s->conn, e);
}

/* One round trip. */
static int settle_together(struct process_batch *p, struct session *s, struct err *e)
{
	struct batch *b = p->batch;
	struct answers a;
	PGresult *res;
	int ret;

	answers_begin(&a);
	for (size_t i = 0; i < p->exchange.n; i++) {
		answers_add(&a, &p->exchange.requests[i]);
		p->places[i] = p->exchange.requests[i].place;
	}
	ret = answers_end(&a, e);
	if (!ret)
		ret = send_together(b, s, &a, e);
	answers_release(&a);
	if (!ret && FAILPOINT("answers.sent"))
		ret = err_set(e, STRAND_ECONN, "failpoint answers.sent");
	if (ret)
		return batch_leave(s, batch_failed(b, STAGE_COMMIT, ret, e));
	ret = batch_finish(b, s, 2, STAGE_HANDLE, &res, e);
	if (!ret)
		batch_note_settled(b, res, p->places);
	PQclear(res);
	return ret;
}

/* --- one by one --------------------------------------------------------------- */

static int charge(struct process_batch *p, struct session *s, size_t at, const struct err *why, bool final,
		  struct err *e)
{
	int ret = batch_charge(p->batch, s, at, why, final, e);

	/* The receipt is not this lease any more; it is looked at later. */
	return ret == STRAND_EPROTO && conn_usable(s->conn) ? 0 : ret;
}

static int give_back(struct process_batch *p, struct session *s, size_t at, struct err *e)
{
	p->batch->states[at] = ITEM_PUT_OFF;
	return batch_give_back(p->batch, s, at, e);
}

/* The route is suspended, or will be for what was charged before this: no more strands
 * are charged for what is its handler's, unless they may not run again. */
static int charge_or_spare(struct process_batch *p, struct session *s, size_t at, const struct err *why, bool final,
			   struct err *e)
{
	bool spare = (p->batch->probe || p->batch->broken) && !final;

	return spare ? give_back(p, s, at, e) : charge(p, s, at, why, final, e);
}

static int charge_work(struct process_batch *p, struct session *s, size_t at, const struct err *why, struct err *e)
{
	struct err charged;
	bool final = process_charge_work(why, p->once, &charged);

	return charge_or_spare(p, s, at, &charged, final, e);
}

/* The answer cannot be settled: is it its own fault?  What is not is tried again. */
static int blame(struct process_batch *p, struct session *s, size_t at, const struct err *why, struct err *e)
{
	struct batch *b = p->batch;

	(void)!batch_failed(b, STAGE_HANDLE, STRAND_ESQL, why);
	if (b->fault == FAULT_HANDLER || b->fault == FAULT_CONFIGURATION || ++p->races >= FREE_ANSWER_RACES)
		return charge_work(p, s, at, why, e);
	*e = *why;
	return STRAND_ESQL;
}

static int settle_answer(struct process_batch *p, struct session *s, const struct request *q, struct err *e)
{
	struct batch *b = p->batch;
	struct answers a;
	struct err why;
	int ret;

	answers_begin(&a);
	answers_add(&a, q);
	ret = answers_end(&a, e);
	if (!ret) {
		const char *values[] = { a.ids.data, b->context->routes->instance_text, a.attempts.data, a.replies.data };
		ret = batch_run_one(b, s, q->place, 4, values, true, &why);
		if (ret == STRAND_ESQL)
			ret = batch_undo_one(b, s, e) ? STRAND_ECONN : blame(p, s, q->place, &why, e);
		else if (ret)
			*e = why;
		else
			batch_note_handled(b, q->place);
	}
	answers_release(&a);
	return ret;
}

static int settle_failed(struct process_batch *p, struct session *s, const struct request *q, struct err *e)
{
	struct err why;
	bool final = process_charge(&p->exchange, q, p->once, &why);

	return charge_or_spare(p, s, q->place, &why, final, e);
}

/* With several on their way nobody knows which one it was, so each goes alone next
 * time; where a strand may not run twice, each is at an end. */
static int settle_lost(struct process_batch *p, struct session *s, const struct request *q, struct err *e)
{
	const struct err *why = &p->exchange.lost;
	/* It was we who ended it. */
	bool free = why->code == STRAND_ESTOPPED || why->code == STRAND_ENOMEM;

	if (p->once || (p->n_lost == 1 && !p->batch->probe && !free))
		return charge_work(p, s, q->place, why, e);
	if (free)
		return give_back(p, s, q->place, e);
	p->batch->items[q->place]->alone = true;
	return give_back(p, s, q->place, e);
}

static int settle_one(struct process_batch *p, struct session *s, const struct request *q, struct err *e)
{
	struct delivery *d = p->batch->items[q->place];
	struct err why = { .code = STRAND_ECONN };

	/* Too late, says our clock: the server's decides when it is claimed again. */
	if (q->state == REQUEST_UNSENT || q->state == REQUEST_LATE)
		return give_back(p, s, q->place, e);
	if (q->state == REQUEST_FAILED)
		return settle_failed(p, s, q, e);
	if (q->state == REQUEST_LOST)
		return settle_lost(p, s, q, e);
	if (!d->lost[0])
		return settle_answer(p, s, q, e);
	err_set(&why, STRAND_ECONN, "the session ended while its replies were written");
	snprintf(why.sqlstate, sizeof(why.sqlstate), "%s", d->lost);
	return charge_work(p, s, q->place, &why, e);
}

static int begin(struct batch *b, struct session *s, struct err *e)
{
	int ret = conn_query(s->conn, STATEMENT_BEGIN, 0, NULL, batch_deadline(b), NULL, e);

	return batch_failed(b, STAGE_CLAIM, ret ? ret : batch_set_anew(b, s, e), e);
}

/* A trigger of the replies' table may end the session every time. */
static void note_loss(struct delivery *d)
{
	if (++d->losses >= FREE_LOSSES)
		snprintf(d->lost, sizeof(d->lost), "08006");
}

static int settle_apart(struct process_batch *p, struct session *s, struct err *e)
{
	struct batch *b = p->batch;
	int ret = begin(b, s, e);

	for (size_t i = 0; !ret && i < p->exchange.n; i++) {
		const struct request *q = &p->exchange.requests[i];

		activity_set_on("settling", b->route->conf->tag, (unsigned)i + 1, (unsigned)p->exchange.n);
		ret = batch_failed(b, STAGE_CLAIM, settle_one(p, s, q, e), e);
		if (ret && !conn_usable(s->conn) && q->state == REQUEST_ANSWERED)
			note_loss(b->items[q->place]);
	}
	return ret ? ret : batch_commit(b, s, e);
}

/* --- both --------------------------------------------------------------------- */

static bool all_answered(const struct exchange *x)
{
	for (size_t i = 0; i < x->n; i++)
		if (x->requests[i].state != REQUEST_ANSWERED)
			return false;
	return true;
}

/* What the last try did to them is undone. */
static void begin_anew(struct process_batch *p)
{
	for (size_t i = 0; i < p->exchange.n; i++)
		p->batch->states[p->exchange.requests[i].place] = ITEM_OURS;
	p->batch->replies = p->batch->unrouted = 0;
	p->batch->failures = 0;
	p->batch->row_ended = p->batch->broken = false;
	p->batch->due_ms = INT64_MAX;
	p->batch->committed = false;
}

int process_settle(struct process_batch *p, struct session *s, struct err *e)
{
	struct batch *b = p->batch;
	int ret = STRAND_ESQL;

	begin_anew(p);
	if (!p->apart && all_answered(&p->exchange)) {
		ret = settle_together(p, s, e);
		/* Also when the session has ended: a reply may end it every time. */
		p->apart = ret != 0;
		if (!ret || !conn_usable(s->conn) || b->committed)
			return ret;
		ret = batch_failed(b, STAGE_CLAIM, batch_rollback(s, e), e);
		if (!ret)
			ret = batch_failed(b, STAGE_PREPARE, session_renew(s, b->route, batch_deadline(b), e), e);
		if (ret)
			return ret;
		begin_anew(p);
	}
	p->apart = true;
	return settle_apart(p, s, e);
}
