/* The end of a batch's transaction, and whom its failure is blamed on. */
#include "work/batch.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/activity.h"
#include "base/clock.h"
#include "base/failpoint.h"
#include "base/log.h"

#define LOOK_TIMEOUT_MS 10000
#define QUEUE_FULL 0.5	/* of the server's notify queue, a moment after it was full */

/* A COMMIT may wait for a synchronous standby.  It is never cancelled: after this
 * the connection is given up and the strands are in doubt. */
#define COMMIT_TIMEOUT_MS 60000

int batch_send_commit(struct session *s, struct err *e)
{
	/* A transaction that failed answers a COMMIT with ROLLBACK and a good
	 * status; the test build makes the server do so. */
	return conn_send(s->conn, FAILPOINT("commit.rollback") ? "ROLLBACK" : "COMMIT", 0, NULL, e);
}

int batch_fetch_commit(struct batch *b, struct session *s, struct err *e)
{
	int64_t deadline = clock_after_ms(COMMIT_TIMEOUT_MS);
	PGresult *res = NULL;
	int ret = conn_fetch(s->conn, deadline, &res, e);

	if (!ret && strcmp(PQcmdStatus(res), "COMMIT"))
		ret = err_set(e, STRAND_EPROTO, "COMMIT was answered with %s", PQcmdStatus(res));
	b->committed = !ret;
	if (!ret && conn_sync_wait_cancelled(s->conn))
		log_event(LOG_LEVEL_WARNING, &(const struct log_fields){ .route = b->route->conf->tag,
			  .source = b->route->conf->source }, "a commit did not wait for the synchronous standby");
	PQclear(res);
	return ret;
}

int batch_commit(struct batch *b, struct session *s, struct err *e)
{
	int64_t deadline = batch_deadline(b);
	int ret = conn_pipeline_enter(s->conn, e), left;

	activity_set_on("committing", b->route->conf->tag, 0, (unsigned)b->n);
	if (!ret)
		ret = batch_send_commit(s, e);
	if (!ret)
		ret = conn_sync(s->conn, e);
	if (!ret)
		ret = batch_fetch_commit(b, s, e);
	if (conn_usable(s->conn)) {
		left = conn_fetch_sync(s->conn, deadline, ret ? NULL : e);
		ret = ret ? ret : left;
	}
	if (conn_usable(s->conn)) {
		left = conn_pipeline_leave(s->conn, ret ? NULL : e);
		ret = ret ? ret : left;
	}
	return batch_failed(b, STAGE_COMMIT, ret, e);
}

/* The whole server's, whose NOTIFYs find no room while some listener sleeps. */
static bool notify_queue_full(struct session *s, const struct err *e)
{
	struct err ignored;
	PGresult *res;
	bool full;

	if (strcmp(e->sqlstate, "54000") ||
	    conn_query(s->conn, "SELECT pg_catalog.pg_notification_queue_usage()", 0, NULL,
		       clock_after_ms(LOOK_TIMEOUT_MS), &res, &ignored))
		return false;
	full = strtod(PQgetvalue(res, 0, 0), NULL) > QUEUE_FULL;
	PQclear(res);
	return full;
}

/* As the same error would be, had it come before the COMMIT. */
static bool strands_own(struct batch *b, struct delivery *d)
{
	if (b->fault == FAULT_HANDLER)
		return true;
	if (b->fault != FAULT_CONFIGURATION)
		return ++d->races >= FREE_RACES;
	if (batch_suspect(b, d))
		return true;
	b->broken |= d->suspicions >= FREE_SUSPICIONS;
	return false;
}

/* A cursor WITH HOLD, say, runs its query at COMMIT.  Of several strands nobody knows
 * whose it was: each goes alone, behind a lease, and then it is known.  A first failure
 * may be a race. */
void batch_blame_commit(struct batch *b, struct session *s, const struct err *e)
{
	if (!conn_usable(s->conn) || notify_queue_full(s, e))
		return;
	for (size_t i = 0; i < b->n; i++) {
		struct delivery *d = b->items[i];

		if (d->leased && strands_own(b, d))
			snprintf(d->lost, sizeof(d->lost), "%s", e->sqlstate);
		d->alone = d->alone || d->tries;
	}
}
