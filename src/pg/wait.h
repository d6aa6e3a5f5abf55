/* The waits beneath conn.c and pipeline.c; private to src/pg. */
#ifndef STRANDD_PG_WAIT_H
#define STRANDD_PG_WAIT_H

#include <stdbool.h>
#include <stdint.h>

#include <libpq-fe.h>

#include "base/err.h"
#include "pg/conn.h"
#include "pg/roster.h"

struct conn {
	PGconn *pg;
	const struct conn_target *target;	/* borrowed */
	int stop_fd;
	bool usable;
	bool sync_wait_cancelled;
	int64_t opened_at, used_at;
	struct roster_entry *entry;
};

/* Polls for `events` on the connection's socket.  0, STRAND_ETIMEOUT,
 * STRAND_ESTOPPED. */
int wait_socket(struct conn *c, short events, int64_t deadline) MUST_CHECK;

/* Flushes what is to be sent and waits for the next PQgetResult, which may be
 * NULL.  Marks the connection unusable on failure. */
int wait_result(struct conn *c, int64_t deadline, PGresult **ret_result, struct err *e) MUST_CHECK;

/* As result_error; marks the connection when its session has ended. */
int answer_error(struct conn *c, const PGresult *res, struct err *e);

/* The connection is gone: marks it and says libpq's reason. */
int conn_lost(struct conn *c, struct err *e);

#endif
