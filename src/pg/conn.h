/* One connection to PostgreSQL on which nothing blocks for ever.
 *
 * Every wait is a poll(2) with a deadline (clock_now() based) and a stop
 * descriptor, cut into slices with a sign of life after each (base/beat.h); only
 * the resolution of a host name is the C library's business.
 * A `struct conn` belongs to one thread at a time.  After STRAND_ECONN,
 * STRAND_ETIMEOUT or STRAND_ESTOPPED the connection is broken: the only calls
 * left are conn_kill and conn_close.  STRAND_ESQL leaves it usable.
 */
#ifndef STRANDD_PG_CONN_H
#define STRANDD_PG_CONN_H

#include <stdbool.h>
#include <stdint.h>

#include <libpq-fe.h>

#include "base/err.h"

/* Where to connect and how a session is set up.  Borrowed until conn_close.
 * NULL strings mean libpq's own default. */
struct conn_target {
	const char *host, *port, *dbname, *user, *password, *service;
	const char *application_name;
	const char *search_path;	/* pinned; "public" when NULL */
	int64_t connect_timeout_ms;	/* bounds conn_kill's own connection, if it is less than 2 s */
	int64_t lock_timeout_ms;	/* 0 = none */
	int64_t statement_timeout_ms;	/* 0 = none */
	int64_t idle_in_transaction_ms;	/* the server frees an abandoned transaction after this; 0 = never */
};

struct conn;

/* Connects, to the first primary of several hosts, and pins the session (isolation,
 * search_path, jit, plans, formats, time zone, timeouts, synchronous_commit,
 * keepalives).  `stop_fd` (-1: none) is watched by every wait of this connection.  The
 * error text names host, database and user, never the password.  STRAND_ECONN,
 * STRAND_ETIMEOUT, STRAND_ESTOPPED, STRAND_ENOMEM. */
int conn_open(struct conn **ret_conn, const struct conn_target *t, int64_t deadline,
	      int stop_fd, struct err *e) MUST_CHECK;
void conn_close(struct conn *c);		/* takes NULL */

PGconn *conn_pg(struct conn *c);		/* borrowed */
bool conn_usable(const struct conn *c);
int64_t conn_opened_at(const struct conn *c);	/* clock_now() at open */
int64_t conn_used_at(const struct conn *c);	/* clock_now() of the last wait */

/* Runs `sql` with text parameters and returns its result, which is
 * PGRES_TUPLES_OK or PGRES_COMMAND_OK (the caller PQclears it; ret_result may
 * be NULL).  STRAND_ESQL with e->sqlstate when the server refused it.  Not
 * while a pipeline is open. */
int conn_query(struct conn *c, const char *sql, int n_values, const char *const *values,
	       int64_t deadline, PGresult **ret_result, struct err *e) MUST_CHECK;

/* Several statements in one message, without parameters: one implicit
 * transaction unless the text says otherwise.  Results are dropped. */
int conn_script(struct conn *c, const char *sql, int64_t deadline, struct err *e) MUST_CHECK;

/* Prepares `sql` under `name`.  The caller knows what it has prepared. */
int conn_prepare(struct conn *c, const char *name, const char *sql, int64_t deadline,
		 struct err *e) MUST_CHECK;

/* Pipeline: enter; send statements; sync; fetch one result per statement, then
 * the sync; leave.  Several syncs may follow each other before leave. */
int conn_pipeline_enter(struct conn *c, struct err *e) MUST_CHECK;
int conn_send(struct conn *c, const char *sql, int n_values, const char *const *values,
	      struct err *e) MUST_CHECK;
int conn_send_prepared(struct conn *c, const char *name, int n_values,
		       const char *const *values, struct err *e) MUST_CHECK;
int conn_sync(struct conn *c, struct err *e) MUST_CHECK;
/* The next statement's result; STRAND_ESQL when it failed, STRAND_EPROTO when it
 * was skipped because an earlier one had failed.  ret_result may be NULL. */
int conn_fetch(struct conn *c, int64_t deadline, PGresult **ret_result, struct err *e) MUST_CHECK;
int conn_fetch_sync(struct conn *c, int64_t deadline, struct err *e) MUST_CHECK;
int conn_pipeline_leave(struct conn *c, struct err *e) MUST_CHECK;

/* Waits until notifications may have arrived (take them with PQnotifies),
 * `deadline` (STRAND_ETIMEOUT, here without breaking the connection) or stop. */
int conn_wait_notify(struct conn *c, int64_t deadline, struct err *e) MUST_CHECK;

/* Ends what the server still runs for this connection, broken or not, through a
 * second, short-lived connection: cancel, or terminate the backend.  Two seconds at
 * most, in which nothing stops it. */
void conn_kill(struct conn *c, bool terminate);

/* True when a notice of the running transaction said that the commit did not
 * wait for the synchronous standby; cleared by the call. */
bool conn_sync_wait_cancelled(struct conn *c);

#endif
