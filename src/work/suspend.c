/* A route whose handler is broken does not burn its backlog: it is suspended, here
 * and in the database, and a few strands probe it now and then. */
#include "work/run.h"

#include "base/buf.h"
#include "base/clock.h"
#include "base/log.h"
#include "strand/suspension.h"

#define RECORD_TIMEOUT_MS 5000

static const char suspended[] =
	"suspended_at = coalesce(l.suspended_at, pg_catalog.clock_timestamp()), suspended_error = $1, suspended_sqlstate = $2";
static const char resumed[] = "suspended_at = NULL, suspended_error = NULL, suspended_sqlstate = NULL";

/* Best effort: without it the route is suspended in this process alone. */
static bool record(struct worker *w, const struct route *r, const char *set, int n_values,
		   const char *const *values)
{
	struct session *s = NULL;
	struct buf sql = BUF_INIT;
	struct err e;
	int ret = connpool_get(&w->pool, 0, &s, &e);

	buf_init(&sql);
	buf_addf(&sql, "UPDATE %s l SET %s WHERE %s", r->routes, set, r->where);
	if (!ret && sql.failed)
		ret = err_set(&e, STRAND_ENOMEM, "out of memory");
	if (!ret)
		ret = conn_query(s->conn, sql.data, n_values, values, clock_after_ms(RECORD_TIMEOUT_MS), NULL, &e);
	buf_release(&sql);
	if (!ret)
		return true;
	log_event(LOG_LEVEL_WARNING, &(const struct log_fields){ .route = r->conf->tag, .source = r->conf->source,
		  .sqlstate = e.sqlstate }, "cannot write it into %s: %s", r->routes, e.text);
	if (s && !conn_usable(s->conn))
		connpool_discard(&w->pool, 0);
	return false;
}

void worker_suspend(struct worker *w, const struct route *r, const struct err *why)
{
	struct suspensions *all = w->context->suspensions;
	const char *values[] = { why->text, why->sqlstate };

	if (!suspension_begin(all, r->index, false))
		return;
	count(w->context, METRIC_SUSPENSIONS, r->index, 1);
	log_event(LOG_LEVEL_ERROR, &(const struct log_fields){ .route = r->conf->tag, .source = r->conf->source,
		  .sqlstate = why->sqlstate, .fold = LOG_FOLD_NEVER },
		  "route suspended: its handler is broken: %s; its strands wait, and a few probe it now and then;"
		  " mend it, then wait, or run: strandctl resume", why->text);
	if (record(w, r, suspended, 2, values))
		(void)suspension_begin(all, r->index, true);
}

static void resume(struct worker *w, const struct route *r)
{
	if (suspension_recorded(w->context->suspensions, r->index) && !record(w, r, resumed, 0, NULL))
		return;
	if (suspension_end(w->context->suspensions, r->index))
		log_event(LOG_LEVEL_INFO, &(const struct log_fields){ .route = r->conf->tag, .source = r->conf->source,
			  .fold = LOG_FOLD_NEVER }, "route resumed: its handler works again");
}

/* How many of the batch's items are in `state`. */
static size_t in_state(const struct batch *b, enum item_state state)
{
	size_t n = 0;

	for (size_t i = 0; i < b->n; i++)
		n += b->states[i] == state;
	return n;
}

static void judge_probe(struct worker *w, const struct batch *b, int ret, const struct err *e)
{
	const struct err *why = ret ? e : &b->why;
	const char *values[] = { why->text, why->sqlstate };
	struct suspensions *all = w->context->suspensions;
	bool tried = ret ? b->fault == FAULT_CONFIGURATION || b->stage == STAGE_HANDLE
			 : in_state(b, ITEM_PUT_OFF) || in_state(b, ITEM_RETRY) || in_state(b, ITEM_FAILED);

	if (!ret && in_state(b, ITEM_SETTLED))
		resume(w, b->route);
	else
		w->probe_tried |= tried;
	/* Else operators and other instances would not learn of it. */
	if (tried && why->code && suspension_on(all, b->route->index) && !suspension_recorded(all, b->route->index) &&
	    record(w, b->route, suspended, 2, values))
		(void)suspension_begin(all, b->route->index, true);
}

static void note_row(struct worker *w, const struct batch *b)
{
	struct suspensions *all = w->context->suspensions;
	bool any = in_state(b, ITEM_SETTLED);

	if (any)
		suspension_success(all, b->route->index);
	if (any || b->failures)
		suspension_add_row(all, b->route->index, b->row_ended || !b->failures, b->failures);
}

void worker_judge_route(struct worker *w, const struct batch *b, int ret, const struct err *e)
{
	if (b->probe) {
		judge_probe(w, b, ret, e);
	} else if (ret) {
		bool routes_own = b->stage == STAGE_COMMIT ? b->broken : !b->session_to_blame &&
				  w->trouble[b->route->index].failures > 1;
		if (b->fault == FAULT_CONFIGURATION && routes_own)
			worker_suspend(w, b->route, e);
	} else {
		note_row(w, b);
		if (b->broken)
			worker_suspend(w, b->route, &b->broken_by);
	}
}
