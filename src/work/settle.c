#include "work/batch.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/activity.h"
#include "base/buf.h"
#include "base/clock.h"
#include "base/failpoint.h"
#include "pg/array.h"

/* statement_timeout strikes first; this is for a server that does not answer. */
#define SETTLE_SLACK_MS 2000

int64_t batch_deadline(const struct batch *b)
{
	return clock_after_ms(b->context->conf->handler_timeout_ms + SETTLE_SLACK_MS);
}

/* "\"public\".dm_receipts" -> "dm_receipts", as an error's table field has it. */
static void bare_name(const char *quoted, char *out, size_t size)
{
	const char *dot = strrchr(quoted, '.');
	size_t n = 0;

	for (const char *p = dot ? dot + 1 : quoted; *p && n + 1 < size; p++)
		if (*p != '"')
			out[n++] = *p;
	out[n] = '\0';
}

int batch_failed(struct batch *b, enum stage stage, int ret, const struct err *e)
{
	char receipts[64];

	if (!ret)
		return 0;
	bare_name(b->route->receipts, receipts, sizeof(receipts));
	b->stage = stage;
	b->fault = ret == STRAND_EPROTO ? FAULT_TRANSACTION : outcome_classify(stage, e, receipts);
	return ret;
}

int batch_rollback(struct session *s, struct err *e)
{
	return conn_query(s->conn, "ROLLBACK", 0, NULL, clock_after_ms(SETTLE_SLACK_MS), NULL, e);
}

void batch_note_settled(struct batch *b, const PGresult *res, const size_t *positions)
{
	for (int i = 0; i < PQntuples(res); i++) {
		size_t n = strtoul(PQgetvalue(res, i, 0), NULL, 10);
		b->states[positions[n - 1]] = *PQgetvalue(res, i, 3) == 'e' ? ITEM_EXPIRED : ITEM_SETTLED;
		b->replies += strtoul(PQgetvalue(res, i, 1), NULL, 10);
		b->unrouted += strtoul(PQgetvalue(res, i, 2), NULL, 10);
		if (*PQgetvalue(res, i, 4) != '0')
			b->odd_item = positions[n - 1];
		b->odd_timeouts += strtoul(PQgetvalue(res, i, 4), NULL, 10);
	}
}

size_t batch_list_ours(const struct batch *b, size_t *positions, struct buf *ids)
{
	size_t n = 0;

	array_begin(ids);
	for (size_t i = 0; i < b->n; i++) {
		if (b->states[i] != ITEM_OURS)
			continue;
		array_item(ids, b->items[i]->id, b->items[i]->id_len);
		positions[n++] = i;
	}
	array_end(ids);
	return n;
}

void batch_release(struct batch *b)
{
	free(b->states);
	free(b->suspects);
	b->states = NULL;
	b->suspects = NULL;
}

void batch_undo(struct batch *b)
{
	for (size_t i = 0; i < b->n; i++) {
		if (b->states[i] != ITEM_TAKEN && b->fault == FAULT_CONNECTION)
			b->items[i]->in_doubt = true;
		b->states[i] = ITEM_TAKEN;
	}
}

static int send_settle(struct batch *b, struct session *s, const char *ids, struct err *e)
{
	const char *values[] = { ids, b->context->routes->instance_text, "0" };
	int ret = conn_pipeline_enter(s->conn, e);

	if (!ret)
		ret = conn_send_prepared(s->conn, s->routes[b->route->index].settle, 3, values, e);
	if (!ret)
		ret = batch_send_commit(s, e);
	if (!ret)
		ret = conn_sync(s->conn, e);
	return ret;
}

int batch_leave(struct session *s, int ret)
{
	if (conn_usable(s->conn) && PQpipelineStatus(conn_pg(s->conn)) != PQ_PIPELINE_OFF)
		(void)!conn_pipeline_leave(s->conn, NULL);
	return ret;
}

/* Of statements whose answers say nothing but that they are done. */
static int skip(struct session *s, int n, int64_t deadline, struct err *e)
{
	int ret = 0;

	for (int i = 0; i < n && conn_usable(s->conn); i++) {
		struct err one;
		int code = conn_fetch(s->conn, deadline, NULL, &one);

		if (code && !ret) {
			ret = code;
			*e = one;
		}
	}
	return ret;
}

/* The COMMIT and the sync after it; an earlier failure is the one that counts. */
static int fetch_end(struct batch *b, struct session *s, int ret, int64_t deadline, struct err *e)
{
	struct err skipped;
	int last;

	if (conn_usable(s->conn)) {
		activity_set_on("committing", b->route->conf->tag, 0, (unsigned)b->n);
		last = batch_fetch_commit(b, s, ret ? &skipped : e);
		ret = ret ? ret : batch_failed(b, STAGE_COMMIT, last, e);
	}
	if (conn_usable(s->conn)) {
		last = conn_fetch_sync(s->conn, deadline, ret ? &skipped : e);
		ret = ret ? ret : batch_failed(b, STAGE_COMMIT, last, e);
	}
	if (conn_usable(s->conn)) {
		last = conn_pipeline_leave(s->conn, ret ? NULL : e);
		ret = ret ? ret : batch_failed(b, STAGE_COMMIT, last, e);
	}
	return ret;
}

int batch_finish(struct batch *b, struct session *s, int before, enum stage stage, PGresult **ret_result,
		 struct err *e)
{
	int64_t deadline = batch_deadline(b);
	PGresult *res = NULL;
	struct err skipped;
	int ret = skip(s, before, deadline, e), own;

	if (conn_usable(s->conn)) {
		own = conn_fetch(s->conn, deadline, &res, ret ? &skipped : e);
		ret = ret ? ret : own;
	}
	ret = fetch_end(b, s, batch_failed(b, stage, ret, e), deadline, e);
	if (ret) {
		PQclear(res);
		res = NULL;
	}
	*ret_result = res;
	return ret;
}

/* The second round trip: settle and COMMIT go out together, and the server skips
 * the COMMIT when the settle failed. */
static int settle(struct batch *b, struct session *s, const size_t *positions, const char *ids,
		  struct err *e)
{
	PGresult *res;
	int ret;

	if (FAILPOINT("settle.before"))
		return batch_failed(b, STAGE_CLAIM, err_set(e, STRAND_ECONN, "failpoint settle.before"), e);
	activity_set_on("handling", b->route->conf->tag, 0, (unsigned)b->n);
	ret = batch_failed(b, STAGE_HANDLE, send_settle(b, s, ids, e), e);
	if (!ret && FAILPOINT("settle.sent"))
		ret = batch_failed(b, STAGE_COMMIT, err_set(e, STRAND_ECONN, "failpoint settle.sent"), e);
	if (ret)
		return batch_leave(s, ret);
	ret = batch_finish(b, s, 0, STAGE_HANDLE, &res, e);
	if (!ret)
		batch_note_settled(b, res, positions);
	PQclear(res);
	return ret;
}

int batch_run(struct batch *b, struct session *s, struct err *e)
{
	struct buf ids = BUF_INIT;
	size_t *positions = calloc(b->n, sizeof(*positions));
	size_t ours;
	int ret;

	if (!positions) {
		b->fault = FAULT_RESOURCES;
		return err_set(e, STRAND_ENOMEM, "out of memory");
	}
	ret = batch_claim(b, s, e);
	buf_init(&ids);
	ours = ret ? 0 : batch_list_ours(b, positions, &ids);
	if (!ret && ids.failed)
		ret = batch_failed(b, STAGE_CLAIM, err_set(e, STRAND_ENOMEM, "out of memory"), e);
	if (!ret && !ours)
		ret = batch_failed(b, STAGE_CLAIM, batch_rollback(s, e), e);
	else if (!ret)
		ret = b->route->conf->serial ? batch_settle_in_turn(b, s, e)
					     : settle(b, s, positions, ids.data, e);
	buf_release(&ids);
	free(positions);
	if (ret)
		batch_undo(b);
	return ret ? ret : batch_examine(b, s, e);
}
