#include "work/batch.h"

#include <stdio.h>
#include <stdlib.h>

#include "base/buf.h"
#include "base/clock.h"
#include "base/log.h"
#include "pg/array.h"

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

static int send_one(struct batch *b, struct session *s, const char *ids, bool guards, struct err *e)
{
	char instance[24];
	const char *values[] = { ids, instance };
	int ret = conn_pipeline_enter(s->conn, e);

	snprintf(instance, sizeof(instance), "%lld", (long long)b->context->routes->instance);
	if (!ret && guards)
		ret = conn_send(s->conn, "SAVEPOINT strand", 0, NULL, e);
	if (!ret)
		ret = batch_send_settings(b, s, e);
	if (!ret)
		ret = conn_send_prepared(s->conn, s->routes[b->route->index].settle, 2, values, e);
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

static int run_one(struct batch *b, struct session *s, size_t i, bool guards, struct err *e)
{
	struct buf id = BUF_INIT;
	int ret, left;

	buf_init(&id);
	array_begin(&id);
	array_item(&id, b->items[i]->id, b->items[i]->id_len);
	array_end(&id);
	ret = id.failed ? err_set(e, STRAND_ENOMEM, "out of memory")
		: session_restore(s, batch_deadline(b), e);
	if (!ret)
		ret = send_one(b, s, id.data, guards, e);
	buf_release(&id);
	if (!ret)
		ret = fetch_one(b, s, i, guards, e);
	if (conn_usable(s->conn)) {
		left = conn_pipeline_leave(s->conn, ret ? NULL : e);
		ret = ret ? ret : left;
	}
	return ret;
}

/* The strand's own fault, or is the handler not even there any more, or not
 * allowed to us?  A settle of no strand at all tells: it needs all tables,
 * functions and rights, and calls nothing. */
static enum fault whose_fault(struct batch *b, struct session *s, struct err *e)
{
	const char *nothing[] = { "{}", "0" };
	int64_t deadline = batch_deadline(b);
	struct err ignored;

	batch_failed(b, STAGE_HANDLE, STRAND_ESQL, e);
	if (b->fault != FAULT_CONFIGURATION)
		return b->fault;
	if (conn_query(s->conn, "SAVEPOINT probe", 0, NULL, deadline, NULL, &ignored))
		return FAULT_CONFIGURATION;
	if (conn_query(s->conn, s->routes[b->route->index].sql.settle, 2, nothing, deadline, NULL, &ignored))
		return FAULT_CONFIGURATION;
	if (conn_query(s->conn, "RELEASE SAVEPOINT probe", 0, NULL, deadline, NULL, &ignored))
		return FAULT_CONFIGURATION;
	return FAULT_HANDLER;
}

static int write_failed(struct batch *b, struct session *s, size_t i, const struct err *why,
			struct err *e)
{
	char instance[24];
	const char *values[] = { b->items[i]->id, instance, why->text, why->sqlstate };
	int ret;

	snprintf(instance, sizeof(instance), "%lld", (long long)b->context->routes->instance);
	ret = conn_query(s->conn, s->routes[b->route->index].sql.fail, 4, values, batch_deadline(b),
			 NULL, e);
	if (ret)
		return batch_failed(b, STAGE_CLAIM, ret, e);
	b->states[i] = ITEM_FAILED;
	log_warning("route %s: strand \"%.64s\" failed: %s (SQLSTATE %s)", b->route->conf->tag,
		    b->items[i]->id, why->text, why->sqlstate);
	return 0;
}

/* 0 also when the strand is put off. */
static int guard_one(struct batch *b, struct session *s, size_t i, struct err *e)
{
	struct err why;
	int ret = run_one(b, s, i, true, &why);

	if (!ret)
		return 0;
	if (ret == STRAND_ESQL)
		ret = conn_script(s->conn, "ROLLBACK TO SAVEPOINT strand; RELEASE SAVEPOINT strand",
				  batch_deadline(b), e);
	else
		*e = why;
	if (ret)
		return batch_failed(b, STAGE_HANDLE, ret, e);
	b->fault = whose_fault(b, s, &why);
	switch (b->fault) {
	case FAULT_HANDLER:
		return write_failed(b, s, i, &why, e);
	case FAULT_TRANSACTION:
	case FAULT_RESOURCES:
	case FAULT_CONNECTION:	/* raised, not met: this session lives */
		b->states[i] = ITEM_PUT_OFF;
		b->why = why;
		b->why_fault = b->fault;
		return 0;
	default:
		*e = why;
		return STRAND_ESQL;
	}
}

static int commit(struct batch *b, struct session *s, struct err *e)
{
	int64_t deadline = batch_deadline(b);
	int ret = conn_pipeline_enter(s->conn, e), left;

	if (!ret)
		ret = batch_send_commit(s, e);
	if (!ret)
		ret = conn_sync(s->conn, e);
	if (!ret)
		ret = batch_fetch_commit(b, s, e);
	if (conn_usable(s->conn)) {
		left = conn_fetch_sync(s->conn, deadline, ret ? NULL : e);
		ret = ret ? ret : left;
	}
	if (conn_usable(s->conn)) {
		left = conn_pipeline_leave(s->conn, ret ? NULL : e);
		ret = ret ? ret : left;
	}
	return batch_failed(b, STAGE_COMMIT, ret, e);
}

static int run_all(struct batch *b, struct session *s, bool guards, struct err *e)
{
	int64_t enough = clock_after_ms(b->context->conf->handler_timeout_ms);
	int ret = 0;

	for (size_t i = 0; !ret && i < b->n; i++) {
		if (b->states[i] != ITEM_OURS)
			continue;
		/* What is left is for the next transaction, or the next start. */
		if (clock_now() > enough || stop_level(b->context->stop) != STOP_NONE)
			b->states[i] = ITEM_PUT_OFF;
		else if (guards)
			ret = guard_one(b, s, i, e);
		else
			ret = batch_failed(b, STAGE_HANDLE, run_one(b, s, i, false, e), e);
	}
	return ret ? ret : commit(b, s, e);
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
