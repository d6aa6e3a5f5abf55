/* A strand whose handling cost a connection, alone: an attempt is charged and
 * committed before its handler runs, so that one which ends its own session every
 * time comes to an end.  The handler's transaction is fenced by that attempt. */
#include "work/batch.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/failpoint.h"
#include "work/receipt.h"

static void note(struct batch *b, const PGresult *res)
{
	static const struct err left_behind = { .code = STRAND_ECONN, .sqlstate = "57P01",
		.text = "its last attempt was left behind, and nothing of it stands" };
	int attempt = atoi(PQgetvalue(res, 0, 1));

	if (strcmp(PQgetvalue(res, 0, 0), "running") == 0)
		b->items[0]->leased = (unsigned)attempt;
	else
		batch_note_final(b, 0, attempt, &left_behind);
}

static int lease(struct batch *b, struct session *s, struct err *e)
{
	bool old = clock_now() - conn_opened_at(s->conn) >= LEASE_SESSION_MS * NSEC_PER_MSEC;
	const char *values[] = { b->items[0]->id, b->context->routes->instance_text, old ? "true" : "false" };
	PGresult *res;
	int ret;

	ret = conn_query(s->conn, s->routes[b->route->index].sql.lease, 3, values, batch_deadline(b), &res, e);
	if (ret)
		return batch_failed(b, STAGE_CLAIM, ret, e);
	if (PQntuples(res))
		note(b, res);
	PQclear(res);
	return batch_commit(b, s, e);
}

int batch_lease(struct batch *b, struct session *s, struct err *e)
{
	int ret = batch_claim(b, s, e);

	if (!ret && b->states[0] != ITEM_OURS)
		return batch_failed(b, STAGE_CLAIM, batch_rollback(s, e), e);
	if (!ret)
		ret = lease(b, s, e);
	if (!ret && FAILPOINT("lease.committed"))
		ret = batch_failed(b, STAGE_COMMIT, err_set(e, STRAND_ECONN, "failpoint lease.committed"), e);
	if (ret) {
		/* No handler has run yet, whatever became of the COMMIT. */
		if (ret != STRAND_ETIMEOUT)
			b->stage = STAGE_CLAIM;
		b->states[0] = ITEM_TAKEN;
		return ret;
	}
	return b->items[0]->leased || b->states[0] != ITEM_OURS ? 0 : batch_examine(b, s, e);
}

int batch_give_back(struct batch *b, struct session *s, size_t i, struct err *e)
{
	char leased[16];
	const char *values[] = { b->items[i]->id, b->context->routes->instance_text, leased };

	snprintf(leased, sizeof(leased), "%u", b->items[i]->leased);
	return batch_failed(b, STAGE_CLAIM, conn_query(s->conn, s->routes[b->route->index].sql.give_back, 3, values,
						       batch_deadline(b), NULL, e), e);
}

int batch_charge_lease(struct batch *b, struct session *s, const struct err *why, struct err *e)
{
	int ret = batch_claim(b, s, e);

	if (!ret && b->states[0] != ITEM_OURS)
		return batch_failed(b, STAGE_CLAIM, batch_rollback(s, e), e);
	if (!ret)
		ret = batch_charge(b, s, 0, why, false, e);
	if (ret == STRAND_EPROTO && conn_usable(s->conn)) {
		/* Somebody took the lease over meanwhile, and with it the strand. */
		b->states[0] = ITEM_GONE;
		return batch_failed(b, STAGE_CLAIM, batch_rollback(s, e), e);
	}
	if (!ret)
		ret = batch_commit(b, s, e);
	if (ret)
		b->states[0] = ITEM_TAKEN;
	return ret;
}
