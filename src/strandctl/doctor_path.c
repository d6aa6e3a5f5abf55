/* The way between this machine and the server: its clock, what stands in between, and
 * how long a notification takes. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/clock.h"
#include "base/failpoint.h"
#include "strandctl/doctor.h"

#define SKEW_MS 1000
#define CANARY_MS 5000
#define SLOW_MS 1000
#define TRIES 3

static int64_t wall_us(void)
{
	struct timespec now;

	clock_gettime(CLOCK_REALTIME, &now);
	return (int64_t)now.tv_sec * 1000000 + now.tv_nsec / 1000 + (FAILPOINT("doctor.skew") ? 3600 * 1000000LL : 0);
}

/* The server's answer was made between the two looks at this machine's clock. */
int doctor_clock(struct doctor *d, struct err *e)
{
	int64_t before = wall_us(), after, server, ahead_ms, way_ms;
	PGresult *res;
	int ret = doctor_query(d, "SELECT (extract(epoch FROM clock_timestamp()) * 1000000)::bigint", 0, NULL, &res, e);

	if (ret)
		return ret;
	after = wall_us();
	server = strtoll(PQgetvalue(res, 0, 0), NULL, 10);
	PQclear(res);
	way_ms = (after - before) / 2000;
	ahead_ms = (server - before - (after - before) / 2) / 1000;
	if (llabs(ahead_ms) - way_ms < SKEW_MS)
		doctor_find(d, SEVERITY_OK, NULL, NULL, "the server's is %" PRId64 " ms ahead, give or take %" PRId64 " ms",
			    ahead_ms, way_ms);
	else
		doctor_find(d, SEVERITY_WARNING, PQhost(conn_pg(d->ctl->conn)), "let both machines ask a time server",
			    "the server's clock is %" PRId64 " ms %s this machine's: timeouts and retries go by the server's, logs"
			    " of this machine do not fit them", (int64_t)llabs(ahead_ms), ahead_ms < 0 ? "behind" : "ahead of");
	return 0;
}

static int backend(int *ret_pid, struct conn *c, const char *sql, struct err *e)
{
	PGresult *res;
	int ret = conn_query(c, sql, 0, NULL, clock_after_ms(CANARY_MS), &res, e);

	if (ret)
		return ret;
	*ret_pid = atoi(PQgetvalue(res, 0, 0));
	PQclear(res);
	return 0;
}

/* A second session of ours, while the first idles: a pooler that hands the first one's
 * server process to the second's transaction does not keep sessions. */
static int is_shared(bool *ret_shared, struct conn *first, struct conn *second, struct err *e)
{
	static const char ask[] = "SELECT pg_backend_pid()";
	int before, after, other, ret = backend(&before, first, ask, e);

	if (!ret)
		ret = conn_query(second, "BEGIN", 0, NULL, clock_after_ms(CANARY_MS), NULL, e);
	if (!ret)
		ret = backend(&other, second, ask, e);
	/* Where there is one server process only this would wait for the other's end. */
	if (!ret)
		ret = conn_query(second, "ROLLBACK", 0, NULL, clock_after_ms(CANARY_MS), NULL, e);
	if (!ret)
		ret = backend(&after, first, ask, e);
	if (!ret)
		*ret_shared = before == other || before != after;
	return ret;
}

/* One more session beside ctl->conn; where there is none to be had the check could not
 * look, as if it had not been allowed to. */
static int open_second(struct conn **ret_conn, struct doctor *d, struct err *e)
{
	struct err why;
	int ret = conn_open(ret_conn, &d->ctl->target, clock_after_ms(CANARY_MS), d->ctl->interrupted.fd, &why);

	if (!ret)
		return 0;
	if (ret == STRAND_ECONN || ret == STRAND_ETIMEOUT)
		return err_set(e, STRAND_ESQL, "no second connection: %.400s", why.text);
	*e = why;
	return ret;
}

int doctor_pooler(struct doctor *d, struct err *e)
{
	struct ctl *ctl = d->ctl;
	struct conn *second;
	bool shared = false;
	int pid, ret = backend(&pid, ctl->conn, "SELECT pg_backend_pid()", e);

	if (!ret)
		ret = open_second(&second, d, e);
	if (ret)
		return ret;
	for (int i = 0; !ret && !shared && i < TRIES; i++)
		ret = is_shared(&shared, ctl->conn, second, e);
	conn_close(second);
	if (ret)
		return ret;
	if (shared)
		doctor_find(d, SEVERITY_ERROR, PQhost(conn_pg(ctl->conn)),
			    "connect to the server itself, or through a pool with pool_mode = session",
			    "a pooler in transaction mode is in between: LISTEN, session settings, prepared statements and"
			    " session locks would be another session's");
	else if (pid != PQbackendPID(conn_pg(ctl->conn)))
		doctor_find(d, SEVERITY_NOTE, PQhost(conn_pg(ctl->conn)), NULL,
			    "a pooler is in between, in session mode as far as can be seen");
	else
		doctor_find(d, SEVERITY_OK, NULL, NULL, "none is in between");
	return 0;
}

/* Waits for the notification that bears the token. */
static int await(struct conn *c, const char *token, int64_t deadline, struct err *e)
{
	for (;;) {
		PGnotify *n;
		bool ours = false;
		int ret;

		while (!ours && (n = PQnotifies(conn_pg(c)))) {
			ours = !strcmp(n->extra, token);
			PQfreemem(n);
		}
		if (ours)
			return 0;
		ret = conn_wait_notify(c, deadline, e);
		if (ret)
			return ret;
	}
}

/* No tag's channel holds a colon: nobody else hears this one. */
int doctor_notification(struct doctor *d, struct err *e)
{
	char token[64];
	const char *values[] = { token };
	int64_t began, deadline, ms;
	struct conn *c;
	int ret = open_second(&c, d, e);

	if (ret)
		return ret;
	began = clock_now();
	deadline = clock_after_ms(CANARY_MS);
	snprintf(token, sizeof(token), "%d %" PRId64, PQbackendPID(conn_pg(c)), began);
	ret = conn_query(c, "LISTEN \"strandd:doctor\"", 0, NULL, deadline, NULL, e);
	if (!ret)
		ret = conn_query(c, FAILPOINT("doctor.silent") ? "SELECT $1::text" : "SELECT pg_notify('strandd:doctor', $1)", 1,
				 values, deadline, NULL, e);
	if (!ret)
		ret = await(c, token, deadline, e);
	conn_close(c);
	ms = (clock_now() - began) / NSEC_PER_MSEC;
	if (ret == STRAND_ETIMEOUT)
		doctor_find(d, SEVERITY_ERROR, NULL, "see what is found about the notify queue and a pooler; pg_locks shows who"
			    " holds up COMMITs", "a notification to oneself did not arrive within %d s", CANARY_MS / 1000);
	else if (ret)
		return ret;
	else
		doctor_find(d, ms >= SLOW_MS ? SEVERITY_WARNING : SEVERITY_OK, NULL, NULL,
			    "one to oneself arrived after %" PRId64 " ms", ms);
	return 0;
}
