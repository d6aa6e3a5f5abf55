#include "work/batch.h"

#include <stdio.h>
#include <stdlib.h>

#include "base/activity.h"
#include "base/buf.h"
#include "base/clock.h"
#include "pg/array.h"
#include "strand/suspension.h"

/* Settings and settle, the last of which answers; with guards a SAVEPOINT before
 * them, and the check and RELEASE after them. */
#define STATEMENTS 2
#define GUARDED_STATEMENTS 7

/* The handler before may have changed the settings.  Deferred constraints are
 * checked here, where their strand is known, and not only by the COMMIT of all.
 * The check is rolled back: it would leave the constraints immediate for the
 * strands that follow, and a handler may write a child before its parent. */
static int send_check(struct session *s, struct err *e)
{
	int ret = conn_send(s->conn, "SAVEPOINT unchecked", 0, NULL, e);

	if (!ret)
		ret = conn_send(s->conn, "SET CONSTRAINTS ALL IMMEDIATE", 0, NULL, e);
	if (!ret)
		ret = conn_send(s->conn, "ROLLBACK TO SAVEPOINT unchecked", 0, NULL, e);
	return ret ? ret : conn_send(s->conn, "RELEASE SAVEPOINT strand", 0, NULL, e);
}

static int send_one(struct batch *b, struct session *s, int n_values, const char *const *values, bool guards,
		    struct err *e)
{
	int ret = conn_pipeline_enter(s->conn, e);

	if (!ret && guards)
		ret = conn_send(s->conn, "SAVEPOINT strand", 0, NULL, e);
	if (!ret)
		ret = batch_send_settings(b, s, e);
	if (!ret)
		ret = conn_send_prepared(s->conn, s->routes[b->route->index].settle, n_values, values, e);
	if (!ret && guards)
		ret = send_check(s, e);
	return ret ? ret : conn_sync(s->conn, e);
}

/* The first failure of the round trip is the one that counts. */
static int fetch_one(struct batch *b, struct session *s, size_t i, bool guards, struct err *e)
{
	int64_t deadline = batch_deadline(b);
	int n = guards ? GUARDED_STATEMENTS : STATEMENTS, place = guards ? 2 : 1;
	PGresult *settled = NULL;
	int first = 0, ret;

	for (int k = 0; k < n && conn_usable(s->conn); k++) {
		struct err one;
		ret = conn_fetch(s->conn, deadline, k == place ? &settled : NULL, &one);
		if (ret && !first) {
			first = ret;
			*e = one;
		}
	}
	if (conn_usable(s->conn)) {
		ret = conn_fetch_sync(s->conn, deadline, first ? NULL : e);
		first = first ? first : ret;
	}
	if (!first)
		batch_note_settled(b, settled, &i);
	PQclear(settled);
	return first;
}

int batch_run_one(struct batch *b, struct session *s, size_t i, int n_values, const char *const *values,
		  bool guarded, struct err *e)
{
	int ret = send_one(b, s, n_values, values, guarded, e), left;

	if (!ret)
		ret = fetch_one(b, s, i, guarded, e);
	if (conn_usable(s->conn)) {
		left = conn_pipeline_leave(s->conn, ret ? NULL : e);
		ret = ret ? ret : left;
	}
	return ret;
}

int batch_undo_one(struct batch *b, struct session *s, struct err *e)
{
	return conn_script(s->conn, "ROLLBACK TO SAVEPOINT strand; RELEASE SAVEPOINT strand", batch_deadline(b), e);
}

static int run_one(struct batch *b, struct session *s, size_t i, bool guards, struct err *e)
{
	char leased[16];
	const char *values[] = { NULL, b->context->routes->instance_text, leased };
	struct buf id = BUF_INIT;
	int ret;

	snprintf(leased, sizeof(leased), "%u", b->items[i]->leased);
	buf_init(&id);
	array_begin(&id);
	array_item(&id, b->items[i]->id, b->items[i]->id_len);
	array_end(&id);
	values[0] = id.data;
	ret = id.failed ? err_set(e, STRAND_ENOMEM, "out of memory")
		: session_restore(s, batch_deadline(b), e);
	if (!ret)
		ret = batch_run_one(b, s, i, 3, values, guards, e);
	buf_release(&id);
	return ret;
}

/* Something that the strand is not charged with; the reason is told. */
static void put_off(struct batch *b, size_t i, enum fault fault, const struct err *why)
{
	b->states[i] = ITEM_PUT_OFF;
	b->why = *why;
	b->why_fault = fault;
}

bool batch_suspect(const struct batch *b, struct delivery *d)
{
	unsigned successes = suspension_successes(b->context->suspensions, b->route->index);

	if (d->suspicions && d->successes != successes && !b->probe)
		return true;
	d->successes = successes;
	/* A probe is to find out about the route. */
	d->suspicions += !b->probe;
	return false;
}

/* A missing function, column or right: whose it is shows when all are through. */
static int suspect(struct batch *b, struct session *s, size_t i, const struct err *why, struct err *e)
{
	if (batch_suspect(b, b->items[i]))
		return batch_charge(b, s, i, why, false, e);
	if (!b->suspects)
		b->suspects = calloc(b->n, sizeof(*b->suspects));
	if (!b->suspects)
		return batch_failed(b, STAGE_CLAIM, err_set(e, STRAND_ENOMEM, "out of memory"), e);
	b->suspects[i] = b->broken_by = *why;
	put_off(b, i, FAULT_CONFIGURATION, why);
	return 0;
}

/* The savepoint is rolled back: who pays for what was in it? */
static int blame(struct batch *b, struct session *s, size_t i, const struct err *why, struct err *e)
{
	enum fault fault;

	(void)!batch_failed(b, STAGE_HANDLE, STRAND_ESQL, why);
	fault = b->fault;
	if (fault == FAULT_CONFIGURATION)
		return suspect(b, s, i, why, e);
	if (b->probe || (fault != FAULT_HANDLER && ++b->items[i]->races < FREE_RACES)) {
		put_off(b, i, fault, why);
		return 0;
	}
	return batch_charge(b, s, i, why, false, e);
}

/* One of the handlers before has deallocated our statements. */
static int prepare_anew(struct batch *b, struct session *s, struct err *e)
{
	int ret = batch_undo_one(b, s, e);

	if (!ret)
		ret = session_renew(s, b->route, batch_deadline(b), e);
	return batch_failed(b, STAGE_PREPARE, ret, e);
}

/* 0 also when the strand is put off. */
static int guard_one(struct batch *b, struct session *s, size_t i, struct err *e)
{
	struct err why;
	int ret = run_one(b, s, i, true, &why);

	if (ret == STRAND_ESQL && session_lost_statements(&why)) {
		ret = prepare_anew(b, s, e);
		if (ret)
			return ret;
		ret = run_one(b, s, i, true, &why);
	}
	if (!ret) {
		batch_note_handled(b, i);
		return 0;
	}
	if (ret == STRAND_ESQL)
		ret = batch_undo_one(b, s, e);
	else
		*e = why;
	return ret ? batch_failed(b, STAGE_HANDLE, ret, e) : blame(b, s, i, &why, e);
}

static bool any_settled(const struct batch *b)
{
	for (size_t i = 0; i < b->n; i++)
		if (b->states[i] == ITEM_SETTLED)
			return true;
	return false;
}

/* Another went through, perhaps because what was missing has come since. */
static int try_suspect_again(struct batch *b, struct session *s, size_t i, struct err *e)
{
	struct err why;
	int ret;

	b->states[i] = ITEM_OURS;
	ret = run_one(b, s, i, true, &why);
	if (!ret) {
		batch_note_handled(b, i);
		return 0;
	}
	if (ret == STRAND_ESQL)
		ret = batch_undo_one(b, s, e);
	else
		*e = why;
	if (ret)
		return batch_failed(b, STAGE_HANDLE, ret, e);
	(void)!batch_failed(b, STAGE_HANDLE, STRAND_ESQL, &why);
	return b->fault == FAULT_CONFIGURATION ? batch_charge(b, s, i, &why, false, e) : blame(b, s, i, &why, e);
}

/* Others of the route went through: it is not broken, these strands are. */
static int charge_suspects(struct batch *b, struct session *s, struct err *e)
{
	int ret = 0;

	b->why.code = 0;
	for (size_t i = 0; !ret && i < b->n; i++) {
		if (!b->suspects[i].code)
			continue;
		b->suspects[i].code = 0;
		ret = try_suspect_again(b, s, i, e);
	}
	return ret;
}

/* None went through: is it the route?  One strand alone gets some more tries, in
 * which another may show that it is not. */
static void judge_suspects(struct batch *b)
{
	size_t n = 0;

	for (size_t i = 0; i < b->n; i++) {
		if (!b->suspects[i].code)
			continue;
		n++;
		if (b->items[i]->suspicions >= FREE_SUSPICIONS)
			b->broken = true;
	}
	if (n > 1)
		b->broken = true;
	/* The route's it was, then, and none of theirs. */
	for (size_t i = 0; b->broken && i < b->n; i++)
		b->items[i]->suspicions = 0;
}

static int run_all(struct batch *b, struct session *s, bool guards, struct err *e)
{
	int64_t enough = clock_after_ms(b->context->conf->handler_timeout_ms);
	int ret = 0;

	for (size_t i = 0; !ret && i < b->n; i++) {
		if (b->states[i] != ITEM_OURS)
			continue;
		activity_set_on("handling", b->route->conf->tag, (unsigned)i + 1, (unsigned)b->n);
		/* What is left is for the next transaction, or the next start, to which a
		 * lease would look like an attempt that was left behind. */
		if (b->broken || clock_now() > enough ||
		    (stop_level(b->context->stop) != STOP_NONE && !b->items[i]->leased))
			b->states[i] = ITEM_PUT_OFF;
		else if (guards)
			ret = guard_one(b, s, i, e);
		else
			ret = batch_failed(b, STAGE_HANDLE, run_one(b, s, i, false, e), e);
	}
	if (!ret && b->suspects && any_settled(b))
		ret = charge_suspects(b, s, e);
	else if (!ret && b->suspects)
		judge_suspects(b);
	/* TAKEN: another batch of a serial route came in between. */
	if (!ret && b->items[0]->leased && (b->states[0] == ITEM_PUT_OFF || b->states[0] == ITEM_TAKEN))
		ret = batch_give_back(b, s, 0, e);
	return ret ? ret : batch_commit(b, s, e);
}

int batch_settle_in_turn(struct batch *b, struct session *s, struct err *e)
{
	return run_all(b, s, false, e);
}

int batch_run_guarded(struct batch *b, struct session *s, struct err *e)
{
	int ret = batch_claim(b, s, e);

	if (!ret)
		ret = run_all(b, s, true, e);
	if (ret)
		batch_undo(b);
	return ret ? ret : batch_examine(b, s, e);
}
