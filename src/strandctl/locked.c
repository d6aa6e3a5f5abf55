#include "strandctl/locked.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/event.h"

#define PAUSE_MS 100
#define PAUSE_MAX_MS 2000

/* One strandctl at a time: CREATE IF NOT EXISTS is not safe against itself. */
static const char turn_sql[] =
	"SELECT pg_try_advisory_lock(k), (SELECT " WATCH_SESSION_SQL
	"  FROM pg_locks l JOIN pg_stat_activity a USING (pid) JOIN pg_database d ON d.oid = l.database"
	" WHERE d.datname = current_database() AND l.locktype = 'advisory' AND l.objsubid = 1 AND l.granted"
	"   AND (l.classid::bigint << 32 | l.objid::bigint) = k)"
	" FROM hashtextextended('strandctl', 0) k";

static bool worth_a_retry(const char *sqlstate)
{
	return !strcmp(sqlstate, "55P03") || !strcmp(sqlstate, "40P01") || !strcmp(sqlstate, "40001");
}

void locked_wait_start(struct locked_wait *w, const struct locked *l)
{
	w->deadline = clock_after_ms(l->ctl->lock_wait_ms);
	w->step_ms = PAUSE_MS;
}

static int give_up(struct locked *l, const char *what, struct err *e)
{
	char blockers[300];

	watch_blockers(l->watch, blockers, sizeof(blockers));
	return err_set(e, STRAND_ESYS, "%s: held up for %lld s by %s; end that, or run it again with a "
		       "longer --lock-wait: what is done stays done", what,
		       (long long)l->ctl->lock_wait_ms / 1000,
		       *blockers ? blockers : *l->holder ? l->holder : "a session that was not seen");
}

/* Half to one and a half of the step; a signal ends it. */
int locked_wait(struct locked_wait *w, struct locked *l, const char *what, struct err *e)
{
	int64_t ms = w->step_ms / 2 + random() % (w->step_ms + 1);

	if (clock_now() >= w->deadline)
		return give_up(l, what, e);
	w->step_ms = w->step_ms * 2 < PAUSE_MAX_MS ? w->step_ms * 2 : PAUSE_MAX_MS;
	if (event_wait(&l->ctl->interrupted, clock_after_ms(ms)) == STRAND_ETIMEOUT)
		return 0;
	return err_set(e, STRAND_ESTOPPED, "interrupted");
}

static int wait_for_turn(struct locked *l, struct err *e)
{
	struct locked_wait wait;
	PGresult *res;
	int ret = 0;

	locked_wait_start(&wait, l);
	while (!ret) {
		bool got;

		ret = ctl_query(l->ctl, turn_sql, 0, NULL, &res, e);
		if (ret)
			break;
		got = *PQgetvalue(res, 0, 0) == 't';
		snprintf(l->holder, sizeof(l->holder), "%s", got ? "" : PQgetvalue(res, 0, 1));
		PQclear(res);
		if (got)
			return 0;
		ret = locked_wait(&wait, l, "another strandctl is changing this database", e);
	}
	return ret;
}

int locked_start(struct locked *l, struct ctl *ctl, struct err *e)
{
	*l = (struct locked){ .ctl = ctl };
	l->watch = watch_start(ctl);
	srandom((unsigned)clock_now());
	return wait_for_turn(l, e);
}

void locked_stop(struct locked *l)
{
	/* The turn ends with the session. */
	watch_stop(l->watch);
	l->watch = NULL;
}

int locked_command(struct ctl *ctl, locked_fn *fn, void *args)
{
	struct locked l = { 0 };
	struct err e;
	int ret = ctl_connect_installed(ctl, &e);

	if (!ret)
		ret = locked_start(&l, ctl, &e);
	if (!ret)
		ret = fn(&l, args, &e);
	locked_stop(&l);
	return ret ? ctl_fail(ctl, &e) : EXIT_OK;
}

static int set_lock_timeout(struct ctl *ctl, int ms, struct err *e)
{
	char sql[64];

	snprintf(sql, sizeof(sql), "SET lock_timeout = %d", ms);
	return ctl_exec(ctl, sql, e);
}

/* One statement or message as the server gets it. */
struct job {
	const char *sql;
	bool script;		/* several statements, no values */
	bool gexec;		/* run the cells of the result */
	int n_values;
	const char *const *values;
	PGresult **ret_result;
};

/* Builds that let writers pass wait for as long as other transactions last. */
static bool is_concurrent(const char *sql)
{
	static const char *const starts[] = { "CREATE INDEX CONCURRENTLY ",
					      "DROP INDEX CONCURRENTLY " };

	for (size_t i = 0; i < sizeof(starts) / sizeof(*starts); i++)
		if (!strncmp(sql, starts[i], strlen(starts[i])))
			return true;
	return false;
}

static int try_simple(struct locked *l, const struct job *job, struct err *e)
{
	bool patient = is_concurrent(job->sql);
	int ret = set_lock_timeout(l->ctl, patient ? 0 : LOCK_TIMEOUT_MS, e);

	if (ret)
		return ret;
	watch_begin(l->watch, patient);
	ret = job->script ? ctl_exec(l->ctl, job->sql, e)
		: ctl_query(l->ctl, job->sql, job->n_values, job->values, job->ret_result, e);
	watch_end(l->watch);
	return ret;
}

static int try_cells(struct locked *l, const PGresult *res, struct err *e)
{
	for (int row = 0; row < PQntuples(res); row++) {
		for (int column = 0; column < PQnfields(res); column++) {
			struct job job = { .sql = PQgetvalue(res, row, column), .script = true };
			int ret = *job.sql ? try_simple(l, &job, e) : 0;

			if (ret)
				return ret;
		}
	}
	return 0;
}

static int try_once(struct locked *l, const struct job *job, struct err *e)
{
	struct job query = *job;
	PGresult *res;
	int ret;

	if (!job->gexec)
		return try_simple(l, job, e);
	query.ret_result = &res;
	ret = try_simple(l, &query, e);
	if (ret)
		return ret;
	ret = try_cells(l, res, e);
	PQclear(res);
	return ret;
}

static int run(struct locked *l, const char *what, const struct job *job, struct err *e)
{
	struct locked_wait wait;
	int ret = 0;

	locked_wait_start(&wait, l);
	while (!ret) {
		ret = try_once(l, job, e);
		if (ret != STRAND_ESQL || !worth_a_retry(e->sqlstate))
			return ret;
		ret = locked_wait(&wait, l, what, e);
	}
	return ret;
}

int locked_exec(struct locked *l, const char *what, const char *sql, struct err *e)
{
	struct job job = { .sql = sql, .script = true };

	return run(l, what, &job, e);
}

int locked_query(struct locked *l, const char *what, const char *sql, int n_values,
		 const char *const *values, PGresult **ret_result, struct err *e)
{
	struct job job = { .sql = sql, .n_values = n_values, .values = values,
			   .ret_result = ret_result };

	return run(l, what, &job, e);
}

int locked_gexec(struct locked *l, const char *what, const char *query, int n_values,
		 const char *const *values, struct err *e)
{
	struct job job = { .sql = query, .gexec = true, .n_values = n_values, .values = values };

	return run(l, what, &job, e);
}
