/* Charging a strand for what its handler did. */
#include "work/batch.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "strand/suspension.h"

void batch_note_handled(struct batch *b, size_t i)
{
	if (b->states[i] != ITEM_SETTLED)
		return;
	b->row_ended = true;
	b->failures = 0;
}

/* One more of the route: is it suspended for so many in a row? */
static void note_failure(struct batch *b, const struct err *why)
{
	unsigned enough = (unsigned)b->route->conf->suspend_after;
	unsigned before = b->row_ended ? 0 : suspension_failures(b->context->suspensions, b->route->index);

	b->failures++;
	if (!enough || before + b->failures < enough)
		return;
	b->broken = true;
	err_set(&b->broken_by, why->code, "%u failures in a row, the last: %s", enough, why->text);
	memcpy(b->broken_by.sqlstate, why->sqlstate, sizeof(b->broken_by.sqlstate));
}

static struct log_fields fields_of(const struct batch *b, size_t i, int attempt, const struct err *why)
{
	return (struct log_fields){ .route = b->route->conf->tag, .source = b->route->conf->source,
				    .strand = b->items[i]->id, .attempt = attempt, .sqlstate = why->sqlstate };
}

void batch_note_final(struct batch *b, size_t i, int attempt, const struct err *why)
{
	const struct log_fields fields = fields_of(b, i, attempt, why);

	b->states[i] = ITEM_FAILED;
	log_event(LOG_LEVEL_ERROR, &fields, "strand failed for good: %s", why->text);
	note_failure(b, why);
}

static void note_retry(struct batch *b, size_t i, int attempt, int64_t due_ms, const struct err *why)
{
	const struct log_fields fields = fields_of(b, i, attempt, why);

	b->states[i] = ITEM_RETRY;
	if (due_ms < b->due_ms)
		b->due_ms = due_ms;
	log_event(LOG_LEVEL_WARNING, &fields, "strand failed: %s; attempt %d of %d follows in %lld ms",
		  why->text, attempt + 1, b->route->conf->attempts, (long long)due_ms);
	note_failure(b, why);
}

static void note(struct batch *b, size_t i, const PGresult *res, const struct err *why)
{
	int attempt = atoi(PQgetvalue(res, 0, 1));

	if (PQgetisnull(res, 0, 2))
		batch_note_final(b, i, attempt, why);
	else
		note_retry(b, i, attempt, strtoll(PQgetvalue(res, 0, 2), NULL, 10), why);
}

int batch_charge(struct batch *b, struct session *s, size_t i, const struct err *why, bool final,
		 struct err *e)
{
	char leased[16];
	const char *values[] = { b->items[i]->id, b->context->routes->instance_text, why->text, why->sqlstate,
				 leased, final ? "true" : "false" };
	PGresult *res;
	int ret;

	snprintf(leased, sizeof(leased), "%u", b->items[i]->leased);
	ret = batch_set_anew(b, s, e);
	if (!ret)
		ret = conn_query(s->conn, s->routes[b->route->index].sql.fail, 6, values, batch_deadline(b), &res, e);
	if (ret)
		return batch_failed(b, STAGE_CLAIM, ret, e);
	if (PQntuples(res))
		note(b, i, res, why);
	else
		ret = batch_failed(b, STAGE_CLAIM, err_set(e, STRAND_EPROTO, "the receipt of strand \"%.64s\" was"
				   " changed by another", b->items[i]->id), e);
	PQclear(res);
	return ret;
}
