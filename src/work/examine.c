#include "work/batch.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "base/clock.h"
#include "base/failpoint.h"
#include "instance/keeper.h"

#define EXAMINE_TIMEOUT_MS 10000

static bool some_settled(const struct batch *b)
{
	for (size_t i = 0; i < b->n; i++)
		if (b->states[i] == ITEM_SETTLED || b->states[i] == ITEM_EXPIRED)
			return true;
	return false;
}

/* `state` is NULL without a receipt. */
static void judge(struct batch *b, size_t i, bool bears, const char *state, bool history)
{
	struct delivery *d = b->items[i];
	const struct context *x = b->context;
	unsigned route = b->route->index;

	if (state && d->in_doubt && !strcmp(state, "done"))
		count(x, METRIC_SETTLED, route, 1);
	else if (state && d->in_doubt && !strcmp(state, "failed"))
		count(x, METRIC_FAILED, route, 1);
	else if (state && d->in_doubt && !strcmp(state, "expired"))
		count(x, METRIC_EXPIRED, route, 1);
	else if (state && d->in_doubt && !strcmp(state, "retry"))
		count(x, METRIC_RETRIED, route, 1);
	else if (!state && !bears)
		count(x, METRIC_FORGED, route, !d->counted);
	else if (state || history)
		count(x, METRIC_DUPLICATES, route, !d->counted);
	else {
		/* Beyond the batch's bytes, or it appeared after the settle had looked. */
		b->states[i] = some_settled(b) ? ITEM_LEFT : ITEM_TAKEN;
		return;
	}
	b->states[i] = ITEM_GONE;
}

/* The receipt asks for a strand that is not there any more, or bears the tag no more. */
static int put_to_rest(struct batch *b, struct session *s, size_t i, struct err *e)
{
	bool process = route_is_process(b->route);
	struct buf dead = BUF_INIT;
	const char *values[] = { b->items[i]->id, b->context->routes->instance_text, NULL };
	int ret;

	b->states[i] = ITEM_GONE;
	buf_init(&dead);
	if (process)
		keeper_list_dead(b->context->keeper, &dead);
	values[2] = dead.data;
	ret = dead.failed ? err_set(e, STRAND_ENOMEM, "out of memory")
		: conn_query(s->conn, s->routes[b->route->index].sql.rest, process ? 3 : 1, values,
			     clock_after_ms(EXAMINE_TIMEOUT_MS), NULL, e);
	buf_release(&dead);
	return ret;
}

static int judge_all(struct batch *b, struct session *s, const size_t *positions, const PGresult *res,
		     struct err *e)
{
	int ret = 0;

	for (int i = 0; !ret && i < PQntuples(res); i++) {
		size_t at = positions[strtoul(PQgetvalue(res, i, 0), NULL, 10) - 1];
		bool bears = *PQgetvalue(res, i, 1) == 't', due = *PQgetvalue(res, i, 4) == 't';

		if (due && !bears)
			ret = put_to_rest(b, s, at, e);
		else
			judge(b, at, bears, PQgetisnull(res, i, 2) ? NULL : PQgetvalue(res, i, 2),
			      *PQgetvalue(res, i, 3) == 't');
	}
	return ret;
}

int batch_examine(struct batch *b, struct session *s, struct err *e)
{
	struct buf ids = BUF_INIT;
	size_t *positions = calloc(b->n, sizeof(*positions)), n = 0;
	PGresult *res = NULL;
	int ret = 0;

	buf_init(&ids);
	if (positions)
		n = batch_list_ours(b, positions, &ids);
	if (!positions || ids.failed)
		ret = err_set(e, STRAND_ENOMEM, "out of memory");
	else if (n)
		ret = session_restore(s, clock_after_ms(EXAMINE_TIMEOUT_MS), e);
	if (!ret && n) {
		const char *values[] = { ids.data, b->context->routes->instance_text };
		ret = conn_query(s->conn, s->routes[b->route->index].sql.examine, 2, values,
				 clock_after_ms(EXAMINE_TIMEOUT_MS), &res, e);
	}
	if (res)
		ret = judge_all(b, s, positions, res, e);
	PQclear(res);
	buf_release(&ids);
	free(positions);
	if (!ret && n && FAILPOINT("batch.judged"))
		ret = err_set(e, STRAND_ECONN, "failpoint batch.judged");
	return batch_failed(b, STAGE_CLAIM, ret, e);
}
