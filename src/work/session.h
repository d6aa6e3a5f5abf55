/* A worker's connection with the statements that it has prepared.
 * Belongs to one worker thread.
 */
#ifndef STRANDD_WORK_SESSION_H
#define STRANDD_WORK_SESSION_H

#include "pg/conn.h"
#include "strand/route.h"
#include "work/statement.h"

/* The server frees what an abandoned transaction of ours holds after this. */
#define SESSION_IDLE_IN_TRANSACTION_MS 10000

struct session_route {
	bool ready;
	bool served;		/* a batch of the route was committed with them */
	struct statements sql;
	char begin[24], settings[24], claim[24], hand_out[24], settle[24];	/* prepared names */
};

struct session {
	struct conn *conn;
	bool spoilt;		/* names are left that are in the way of others; not to be kept */
	size_t n_routes;
	struct session_route routes[];
};

/* Connects, and refuses a database that is not the one of the routes. */
int session_open(struct session **ret_session, const struct conn_target *target,
		 const struct route_table *routes, int64_t deadline, int stop_fd,
		 struct err *e) MUST_CHECK;
void session_close(struct session *s);	/* takes NULL */

/* Builds and prepares the route's statements if that is still to do. */
int session_prepare(struct session *s, const struct route *r, int64_t deadline,
		    struct err *e) MUST_CHECK;

/* Before ids are sent: a handler may have changed the session's encoding, and
 * they would be taken for others. */
int session_restore(struct session *s, int64_t deadline, struct err *e) MUST_CHECK;

/* Does the error say that prepared statements are gone, or are there already?  A
 * handler may deallocate, or prepare. */
bool session_lost_statements(const struct err *e);

/* Forgets them: the receiving table may have changed.  Not in a transaction
 * that failed. */
int session_renew(struct session *s, const struct route *r, int64_t deadline,
		  struct err *e) MUST_CHECK;

/* After a handler that failed: what a rollback leaves of it in the session, such as
 * advisory locks, cursors and temporary tables.  Not in a transaction. */
int session_scrub(struct session *s, int64_t deadline, struct err *e) MUST_CHECK;

#endif
