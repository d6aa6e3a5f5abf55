/* The texts of the statements that move a route's strands: claim, handle and
 * settle, and their companions.
 *
 * Built from the catalogs on one connection, for one route, by the thread that
 * owns the connection; a receiving table that changes shape needs a new build.
 * All values of strands are parameters; identifiers and column defaults come
 * quoted from the server.
 */
#ifndef STRANDD_WORK_STATEMENT_H
#define STRANDD_WORK_STATEMENT_H

#include "base/err.h"
#include "pg/conn.h"
#include "strand/route.h"

struct statements {
	/* $1 search_path, $2 lock_timeout, $3 statement_timeout, $4
	 * idle_in_transaction_session_timeout, $5 tag.  SET LOCAL of everything that
	 * a handler could have overwritten, and of the planner's pins. */
	char *settings;
	/* $1 text[] ids.  Answers (n, shape): the positions, from 1, that are ours
	 * until the transaction ends, and the receiver's shape now; none of a serial
	 * route while another batch of it runs.  Waits for nobody, writes nothing. */
	char *claim;
	/* $1 text[] ids that are ours, $2 instance, $3 the leased attempt or 0.  Calls
	 * the handler strand by strand, writes replies and receipts, `done` or `expired`
	 * (without a call).  Answers (n, replies, unrouted tags, state, odd timeouts)
	 * for each strand that was there, bore the tag, and whose receipt let it run.
	 * Of a process's route, $3 integer[] their leased attempts, $4 text[] their replies,
	 * each a JSON array; for each whose receipt is still that lease. */
	char *settle;
	/* Of a process's route, $1 text[] ids that are ours, $2 instance, $3 bigint[] the
	 * instances that are known to be dead.  Charges an attempt to each strand that may
	 * run.  Answers (n, state, attempt, the row as JSON text, odd timeouts): `running`,
	 * or, with no row, what it came to at once: `expired`, or `failed`. */
	char *hand_out;
	char *fail, *lease, *give_back, *rest;	/* see work/receipt.h */
	/* $1 text[] ids, $2 instance.  Answers (n, bears the tag, its receipt's
	 * state or NULL (also of a retry that is due) or "another's", is history or of
	 * a route that is gone, has a receipt that is due) of what a settle left out. */
	char *examine;
	char *shape;	/* of the receiver when they were built */
};

#define STATEMENT_BEGIN "BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE"

int statements_build(struct statements *ret, const struct route *r, struct conn *c,
		     int64_t deadline, struct err *e) MUST_CHECK;
void statements_release(struct statements *s);

#endif
