#include "pg/conn.h"

#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/activity.h"
#include "base/clock.h"
#include "pg/connect.h"
#include "pg/wait.h"

/* What a database's or a role's defaults could change under our feet.  The
 * parameters are search_path, lock_timeout, statement_timeout and
 * idle_in_transaction_session_timeout. */
static const char session_sql[] =
	"SELECT pg_catalog.set_config(s.name, s.value, false) FROM (VALUES"
	" ('search_path', $1),"
	" ('lock_timeout', $2),"
	" ('statement_timeout', $3),"
	" ('idle_in_transaction_session_timeout', $4),"
	" ('idle_session_timeout', '0'),"
	" ('default_transaction_isolation', 'read committed'),"
	" ('default_transaction_read_only', 'off'),"
	" ('default_transaction_deferrable', 'off'),"
	" ('synchronous_commit', 'on'),"
	" ('jit', 'off'),"
	" ('enable_indexscan', 'on'),"
	" ('enable_nestloop', 'on'),"
	" ('DateStyle', 'ISO, YMD'),"
	" ('IntervalStyle', 'postgres'),"
	" ('TimeZone', 'UTC'),"
	" ('extra_float_digits', '1'),"
	" ('bytea_output', 'hex'),"
	" ('standard_conforming_strings', 'on'),"
	" ('escape_string_warning', 'on'),"
	" ('client_min_messages', 'warning'),"
	" ('tcp_keepalives_idle', '" KEEPALIVES_IDLE_S "'),"
	" ('tcp_keepalives_interval', '" KEEPALIVES_INTERVAL_S "'),"
	" ('tcp_keepalives_count', '" KEEPALIVES_COUNT "'),"
	" ('tcp_user_timeout', '" TCP_USER_TIMEOUT_MS "'),"
	" ('client_connection_check_interval', '5s')"
	") AS s(name, value)";

static void on_notice(void *arg, const PGresult *res)
{
	struct conn *c = arg;
	const char *text = PQresultErrorField(res, PG_DIAG_MESSAGE_PRIMARY);

	/* syncrep.c's warnings; not each of them has a SQLSTATE of its own. */
	if (text && strstr(text, "synchronous replication"))
		c->sync_wait_cancelled = true;
}

static int pin_session(struct conn *c, int64_t deadline, struct err *e)
{
	const struct conn_target *t = c->target;
	char lock[24], statement[24], idle[24];
	const char *values[] = { t->search_path ? t->search_path : "public", lock, statement, idle };

	snprintf(lock, sizeof(lock), "%lld", (long long)t->lock_timeout_ms);
	snprintf(statement, sizeof(statement), "%lld", (long long)t->statement_timeout_ms);
	snprintf(idle, sizeof(idle), "%lld", (long long)t->idle_in_transaction_ms);
	return conn_query(c, session_sql, 4, values, deadline, NULL, e);
}

int conn_open(struct conn **ret_conn, const struct conn_target *t, int64_t deadline,
	      int stop_fd, struct err *e)
{
	struct conn *c = calloc(1, sizeof(*c));
	int ret;

	if (!c)
		return err_set(e, STRAND_ENOMEM, "out of memory");
	c->target = t;
	c->stop_fd = stop_fd;
	c->opened_at = c->used_at = clock_now();
	c->entry = roster_enter();
	activity_set("connecting");
	ret = connect_server(c, deadline, e);
	if (!ret && PQsetnonblocking(c->pg, 1))
		ret = conn_lost(c, e);
	if (!ret) {
		PQsetNoticeReceiver(c->pg, on_notice, c);
		c->usable = true;
		roster_pid(c->entry, PQbackendPID(c->pg));
		ret = pin_session(c, deadline, e);
		if (ret == STRAND_ESQL)
			ret = STRAND_ECONN;
	}
	if (ret) {
		conn_close(c);
		return ret;
	}
	*ret_conn = c;
	return 0;
}

void conn_close(struct conn *c)
{
	if (!c)
		return;
	roster_leave(c->entry);
	PQfinish(c->pg);
	free(c);
}

PGconn *conn_pg(struct conn *c)
{
	return c->pg;
}

bool conn_usable(const struct conn *c)
{
	return c->usable;
}

int64_t conn_opened_at(const struct conn *c)
{
	return c->opened_at;
}

int64_t conn_used_at(const struct conn *c)
{
	return c->used_at;
}

bool conn_sync_wait_cancelled(struct conn *c)
{
	bool was = c->sync_wait_cancelled;

	c->sync_wait_cancelled = false;
	return was;
}

/* One result is wanted; an error among several results wins. */
static int collect(struct conn *c, int64_t deadline, PGresult **ret_result, struct err *e)
{
	PGresult *last = NULL, *res;
	int ret, first_error = 0;

	while (!(ret = wait_result(c, deadline, &res, e)) && res) {
		int bad = answer_error(c, res, first_error ? NULL : e);
		if (bad && !first_error)
			first_error = bad;
		PQclear(last);
		last = res;
	}
	ret = ret ? ret : first_error;
	if (!ret && ret_result) {
		*ret_result = last;
		return 0;
	}
	PQclear(last);
	return ret;
}

int conn_query(struct conn *c, const char *sql, int n_values, const char *const *values,
	       int64_t deadline, PGresult **ret_result, struct err *e)
{
	if (!PQsendQueryParams(c->pg, sql, n_values, NULL, values, NULL, NULL, 0))
		return conn_lost(c, e);
	return collect(c, deadline, ret_result, e);
}

int conn_script(struct conn *c, const char *sql, int64_t deadline, struct err *e)
{
	if (!PQsendQuery(c->pg, sql))
		return conn_lost(c, e);
	return collect(c, deadline, NULL, e);
}

int conn_prepare(struct conn *c, const char *name, const char *sql, int64_t deadline,
		 struct err *e)
{
	if (!PQsendPrepare(c->pg, name, sql, 0, NULL))
		return conn_lost(c, e);
	return collect(c, deadline, NULL, e);
}

int conn_wait_notify(struct conn *c, int64_t deadline, struct err *e)
{
	int ret;

	roster_state(c->entry, ROSTER_LISTENING, clock_now());
	ret = wait_socket(c, POLLIN, deadline);
	if (ret == STRAND_ETIMEOUT)
		return ret;
	if (ret) {
		c->usable = false;
		return err_set(e, ret, "told to stop");
	}
	return PQconsumeInput(c->pg) ? 0 : conn_lost(c, e);
}

/* It watches no stop descriptor, as it is there to clean up: so it must be short. */
#define KILL_MS 2000

/* The process id alone could be another's by now, or on another server. */
static const char kill_sql[] =
	"SELECT CASE WHEN $3::boolean THEN pg_catalog.pg_terminate_backend(a.pid)"
	"  ELSE pg_catalog.pg_cancel_backend(a.pid) END FROM pg_catalog.pg_stat_activity a"
	" WHERE a.pid = $1::int AND a.datname = pg_catalog.current_database()"
	"  AND a.usename = current_user AND a.application_name = $2";

void conn_kill(struct conn *c, bool terminate)
{
	int64_t ms = c->target->connect_timeout_ms;
	int64_t deadline = clock_after_ms(ms < KILL_MS ? ms : KILL_MS);
	char pid[24];
	const char *values[] = { pid, c->target->application_name, terminate ? "t" : "f" };
	struct conn *second;
	struct err ignored;

	snprintf(pid, sizeof(pid), "%d", PQbackendPID(c->pg));
	if (conn_open(&second, c->target, deadline, -1, &ignored))
		return;
	/* If this fails, the backend's own timeouts and connection check remain. */
	(void)!conn_query(second, kill_sql, 3, values, deadline, NULL, &ignored);
	conn_close(second);
}
