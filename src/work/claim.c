#include "work/batch.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/activity.h"
#include "base/buf.h"
#include "base/clock.h"
#include "base/failpoint.h"
#include "base/log.h"
#include "pg/array.h"

/* A claim waits for nothing but a server that is slow to answer. */
#define CLAIM_TIMEOUT_MS 15000
#define CLAIM_STATEMENTS 3	/* BEGIN, settings, claim */

static void ids_of(const struct batch *b, struct buf *ids)
{
	array_begin(ids);
	for (size_t i = 0; i < b->n; i++)
		array_item(ids, b->items[i]->id, b->items[i]->id_len);
	array_end(ids);
}

enum { SETTINGS = 5 };

struct settings {
	char lock[24], statement[24], idle[24];
	const char *values[SETTINGS];
};

static void settings_of(const struct batch *b, struct settings *ret)
{
	const struct conf *conf = b->context->conf;

	snprintf(ret->lock, sizeof(ret->lock), "%lld", (long long)conf->db_lock_timeout_ms);
	snprintf(ret->statement, sizeof(ret->statement), "%lld", (long long)conf->handler_timeout_ms);
	snprintf(ret->idle, sizeof(ret->idle), "%lld", (long long)b->context->target->idle_in_transaction_ms);
	ret->values[0] = conf->db_search_path;
	ret->values[1] = ret->lock;
	ret->values[2] = ret->statement;
	ret->values[3] = ret->idle;
	ret->values[4] = b->route->conf->tag;
}

int batch_send_settings(struct batch *b, struct session *s, struct err *e)
{
	struct settings set;

	settings_of(b, &set);
	return conn_send_prepared(s->conn, s->routes[b->route->index].settings, SETTINGS, set.values, e);
}

int batch_set_anew(struct batch *b, struct session *s, struct err *e)
{
	struct settings set;

	settings_of(b, &set);
	return conn_query(s->conn, s->routes[b->route->index].sql.settings, SETTINGS, set.values,
			  batch_deadline(b), NULL, e);
}

static int send_claim(struct batch *b, struct session *s, const char *ids, struct err *e)
{
	const struct session_route *p = &s->routes[b->route->index];
	const char *values[] = { ids };
	int ret = conn_pipeline_enter(s->conn, e);

	if (!ret)
		ret = conn_send_prepared(s->conn, p->begin, 0, NULL, e);
	if (!ret)
		ret = batch_send_settings(b, s, e);
	if (!ret)
		ret = conn_send_prepared(s->conn, p->claim, 1, values, e);
	if (!ret)
		ret = conn_sync(s->conn, e);
	return ret;
}

/* True when the receiver is no more what the statements were built for. */
static bool note_claimed(struct batch *b, const char *shape, const PGresult *res)
{
	for (int i = 0; i < PQntuples(res); i++) {
		size_t n = strtoul(PQgetvalue(res, i, 0), NULL, 10);
		if (n >= 1 && n <= b->n)
			b->states[n - 1] = ITEM_OURS;
	}
	return PQntuples(res) && strcmp(PQgetvalue(res, 0, 1), shape) != 0;
}

/* Fetches all answers of the round trip, so that the pipeline can be left; the
 * first failure is the one that counts. */
static int fetch_claim(struct batch *b, struct session *s, bool *ret_changed, struct err *e)
{
	int64_t deadline = clock_after_ms(CLAIM_TIMEOUT_MS);
	int first = 0;
	PGresult *res = NULL;

	for (int i = 0; i < CLAIM_STATEMENTS; i++) {
		struct err one;
		PQclear(res);
		res = NULL;
		int ret = conn_fetch(s->conn, deadline, &res, &one);
		if (ret && !first) {
			first = ret;
			*e = one;
		}
		if (!conn_usable(s->conn))
			return first;
	}
	if (!first)
		*ret_changed = note_claimed(b, s->routes[b->route->index].sql.shape, res);
	PQclear(res);
	int ret = conn_fetch_sync(s->conn, deadline, first ? NULL : e);
	return ret ? ret : first;
}

int batch_claim(struct batch *b, struct session *s, struct err *e)
{
	struct buf ids = BUF_INIT;
	bool changed = false;
	int ret, left;

	activity_set_on("claiming", b->route->conf->tag, 0, (unsigned)b->n);
	for (size_t i = 0; i < b->n; i++)
		b->states[i] = ITEM_TAKEN;
	b->replies = b->unrouted = b->odd_timeouts = 0;
	b->failures = 0;
	b->row_ended = false;
	b->due_ms = INT64_MAX;
	b->committed = false;
	buf_init(&ids);
	ids_of(b, &ids);
	ret = ids.failed ? err_set(e, STRAND_ENOMEM, "out of memory")
		: session_restore(s, clock_after_ms(CLAIM_TIMEOUT_MS), e);
	if (!ret)
		ret = send_claim(b, s, ids.data, e);
	buf_release(&ids);
	if (!ret && b->meanwhile)
		b->meanwhile(b->arg);
	if (!ret)
		ret = fetch_claim(b, s, &changed, e);
	if (conn_usable(s->conn)) {
		left = conn_pipeline_leave(s->conn, ret ? NULL : e);
		ret = ret ? ret : left;
	}
	if (!ret && FAILPOINT("claim.after"))
		ret = err_set(e, STRAND_ECONN, "failpoint claim.after");
	ret = batch_failed(b, STAGE_CLAIM, ret, e);
	if (ret || !changed)
		return ret;
	log_debug("route %s: %s has changed, its statements are built anew", b->route->conf->tag,
		  b->route->receiver);
	return batch_failed(b, STAGE_PREPARE, session_renew(s, b->route, clock_after_ms(CLAIM_TIMEOUT_MS), e), e);
}
