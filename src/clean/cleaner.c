#include "clean/cleaner.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/activity.h"
#include "base/clock.h"
#include "base/failpoint.h"
#include "base/log.h"
#include "clean/sweep.h"

#define LOOK_MS 60000		/* is a run due by now?  another daemon may have made one, or died in it */
#define HELD_MS 2000		/* is the run at work over?  a generation's ends when the next one serves */
#define SHORT_MS 30000		/* for statements that only look something up */
#define BATCH_MS 60000		/* a batch that takes longer is given up, and tried smaller */
#define TELL_MS 30000		/* a run at work says so this often */

/* Milliseconds until the next run is due; 0: now. */
static const char due_sql[] =
	"SELECT coalesce((SELECT pg_catalog.ceil(greatest(0, pg_catalog.date_part('epoch', c.started_at"
	"   + pg_catalog.make_interval(hours => $1::integer) - pg_catalog.clock_timestamp()) * 1000))::bigint"
	"  FROM strandd.cleanup c), 0)";

static const char completed_sql[] =
	"INSERT INTO strandd.cleanup AS c (started_at, finished_at, deleted, kept, receipts)"
	" VALUES (pg_catalog.clock_timestamp() - pg_catalog.make_interval(secs => $1::float8 / 1000),"
	"  pg_catalog.clock_timestamp(), $2::bigint, $3::bigint, $4::bigint)"
	" ON CONFLICT ON CONSTRAINT cleanup_pkey DO UPDATE SET started_at = excluded.started_at,"
	"  finished_at = excluded.finished_at, deleted = excluded.deleted, kept = excluded.kept,"
	"  receipts = excluded.receipts";

void cleaner_init(struct cleaner *c, const struct context *x, struct cleaner_past *past)
{
	*c = (struct cleaner){ .context = x, .past = past, .batch = x->conf->cleanup_batch };
}

void cleaner_release(struct cleaner *c)
{
	conn_close(c->conn);
	c->conn = NULL;
}

double cleaner_kept(void *arg, unsigned route)
{
	const struct cleaner_past *past = arg;

	(void)route;
	/* relaxed: a lone number */
	return (double)atomic_load_explicit(&past->kept, memory_order_relaxed);
}

double cleaner_last_run_seconds(void *arg, unsigned route)
{
	const struct cleaner_past *past = arg;

	(void)route;
	/* relaxed: a lone number */
	return (double)atomic_load_explicit(&past->run_ms, memory_order_relaxed) / 1000;
}

static int64_t soon(void)
{
	return clock_after_ms(SHORT_MS);
}

/* Anything that this thread waits for ends when the daemon is told to stop: what
 * was not committed is found again by the next run. */
static int connect_cleaner(struct cleaner *c, struct err *e)
{
	const struct context *x = c->context;

	return route_table_connect(x->routes, &c->conn, x->target, clock_after_ms(x->conf->db_connect_timeout_ms),
				   x->stop->drain.fd, e);
}

static int ask_due(struct cleaner *c, int64_t *ret_ms, struct err *e)
{
	char hours[16];
	const char *values[] = { hours };
	PGresult *res;
	int ret;

	snprintf(hours, sizeof(hours), "%d", c->context->conf->cleanup_interval_hours);
	ret = conn_query(c->conn, due_sql, 1, values, soon(), &res, e);
	if (ret)
		return ret;
	*ret_ms = strtoll(PQgetvalue(res, 0, 0), NULL, 10);
	PQclear(res);
	return 0;
}

static void on_step(const struct sweep *s, void *arg)
{
	struct cleaner *c = arg;
	struct sweep_counts sum = sweep_total(s);
	bool told_lately = clock_now() - c->told_at < TELL_MS * NSEC_PER_MSEC;

	count(c->context, METRIC_CLEANUP_DELETED, METRIC_NO_ROUTE, sum.deleted - c->counted_deleted);
	count(c->context, METRIC_CLEANUP_RECEIPTS, METRIC_NO_ROUTE, s->receipts - c->counted_receipts);
	c->counted_deleted = sum.deleted;
	c->counted_receipts = s->receipts;
	if (told_lately && !FAILPOINT("clean.tell"))
		return;
	c->told_at = clock_now();
	log_info("cleanup at %s: %" PRIu64 " strands and %" PRIu64 " receipts deleted so far",
		 s->at < s->n_tables ? s->tables[s->at].name : "receipts", sum.deleted, s->receipts);
}

/* What to do about a right that is missing, or "". */
static void remedy(const struct cleaner *c, const struct err *e, char *out, size_t size)
{
	snprintf(out, size, "%s", "");
	if (!strcmp(e->sqlstate, "42501") && c->conn)
		snprintf(out, size, "; run: strandctl init --grant-cleanup %s", PQuser(conn_pg(c->conn)));
}

/* A line a table that there is something to say of. */
static void tell_tables(const struct cleaner *c, const struct sweep *s)
{
	for (size_t i = 0; i < s->n_tables; i++) {
		const struct sweep_table *t = &s->tables[i];
		char what_now[200];

		remedy(c, &t->failure, what_now, sizeof(what_now));
		if (t->failure.code)
			log_warning("cleanup of %s left off: %s%s", t->name, t->failure.text, what_now);
		if (t->counts.kept)
			log_warning("cleanup of %s: %" PRIu64 " strands older than %d days kept, because a route has"
				    " not finished them; the oldest is \"%s\" of %s", t->name, t->counts.kept,
				    s->config->retention_days, t->oldest_kept, t->oldest_kept_at);
		if (t->counts.refused)
			log_warning("cleanup of %s: %" PRIu64 " strands could not be deleted: %s", t->name,
				    t->counts.refused, t->refusal);
		if (t->counts.deleted || t->counts.busy)
			log_info("cleanup of %s: %" PRIu64 " strands deleted, %" PRIu64 " in use", t->name,
				 t->counts.deleted, t->counts.busy);
	}
}

static int record(struct cleaner *c, const struct sweep *s, struct err *e)
{
	struct sweep_counts sum = sweep_total(s);
	int64_t ms = (clock_now() - c->begun_at) / NSEC_PER_MSEC;
	char took[24], deleted[24], kept[24], receipts[24];
	const char *values[] = { took, deleted, kept, receipts };
	int ret;

	snprintf(took, sizeof(took), "%" PRId64, ms);
	snprintf(deleted, sizeof(deleted), "%" PRIu64, sum.deleted);
	snprintf(kept, sizeof(kept), "%" PRIu64, sum.kept);
	snprintf(receipts, sizeof(receipts), "%" PRIu64, s->receipts);
	ret = conn_query(c->conn, completed_sql, 4, values, soon(), NULL, e);
	if (ret)
		return ret;
	/* relaxed: lone numbers */
	atomic_store_explicit(&c->past->kept, sum.kept, memory_order_relaxed);
	atomic_store_explicit(&c->past->run_ms, ms, memory_order_relaxed);
	count(c->context, METRIC_CLEANUP_RUNS, METRIC_NO_ROUTE, 1);
	tell_tables(c, s);
	log_info("cleanup completed in %.1f s: %" PRIu64 " strands and %" PRIu64 " receipts deleted, %" PRIu64
		 " strands kept", (double)ms / 1000, sum.deleted, s->receipts, sum.kept);
	return 0;
}

static int run(struct cleaner *c, struct err *e)
{
	const struct conf *conf = c->context->conf;
	const struct sweep_config config = {
		.retention_days = conf->cleanup_retention_days,
		.fence_hours = conf->cleanup_interval_hours,
		.batch = c->batch,
		.pause_ms = conf->cleanup_pause_ms,
		.statement_ms = BATCH_MS,
		.drop_unprocessed = conf->cleanup_drop_unprocessed,
		.search = true,
		/* relaxed: a lone number, and one run at a time */
		.search_first = atomic_fetch_add_explicit(&c->past->runs_begun, 1, memory_order_relaxed) % 2,
	};
	struct sweep s = { .conn = c->conn, .stop = &c->context->stop->drain, .config = &config,
			   .step = on_step, .step_arg = c };
	int ret;

	c->begun_at = c->told_at = clock_now();
	c->counted_deleted = c->counted_receipts = 0;
	activity_set("cleaning up");
	log_info("cleanup of strands older than %d days begins", config.retention_days);
	ret = sweep_start(&s, NULL, e);
	if (!ret)
		ret = sweep_run(&s, e);
	if (!ret)
		ret = record(c, &s, e);
	sweep_release(&s);
	return ret;
}

/* Looks whether a run is due, and makes it; *ret_ms: how long until it is looked
 * again.  Due is asked once more under the lock: whoever held it may have made it. */
static int look(struct cleaner *c, int64_t *ret_ms, struct err *e)
{
	char holder[300];
	int ret = connect_cleaner(c, e);

	if (!ret)
		ret = ask_due(c, ret_ms, e);
	if (ret || *ret_ms)
		return ret;
	ret = sweep_lock(c->conn, soon(), holder, sizeof(holder), e);
	if (!ret && *holder) {
		log_debug("another cleanup is at work: %s", holder);
		*ret_ms = HELD_MS;
		return 0;
	}
	if (!ret)
		ret = ask_due(c, ret_ms, e);
	if (!ret && !*ret_ms)
		ret = run(c, e);
	return ret ? ret : ask_due(c, ret_ms, e);
}

/* What to do about an error; how long to wait. */
static int64_t trouble(struct cleaner *c, int ret, const struct err *e)
{
	struct err told = *e;
	char what_now[200];

	remedy(c, e, what_now, sizeof(what_now));
	if (ret == STRAND_ETIMEOUT && c->batch > 1) {
		c->batch = c->batch > 10 ? c->batch / 10 : 1;
		err_set(&told, ret, "cleanup: a batch took more than %d s (does another table refer to the strands"
			" without an index?)", BATCH_MS / 1000);
	} else {
		err_set(&told, ret, "cleanup: %s%s", e->text, what_now);
	}
	return outage_failed(&c->outage, &told, "trying again");
}

void cleaner_run(void *arg)
{
	struct cleaner *c = arg;
	const struct context *x = c->context;
	int64_t ms = 0;
	struct err e;

	while (stop_level(x->stop) == STOP_NONE) {
		int ret;

		activity_set("looking whether a cleanup is due");
		ret = look(c, &ms, &e);

		if (ret == STRAND_ESTOPPED)
			break;
		if (ret)
			ms = trouble(c, ret, &e);
		else
			outage_over(&c->outage, "cleanup works again");
		if (!ret && ms > LOOK_MS)
			ms = LOOK_MS;
		cleaner_release(c);
		activity_set("idle");
		(void)event_wait(&x->stop->drain, clock_after_ms(ms));
	}
	cleaner_release(c);
}
