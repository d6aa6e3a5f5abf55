/* One strand before one route's handler, of which nothing stands: what `strandctl
 * handler-test --route` does.
 *
 * The statements, their settings and their session are a worker's.  The strand is claimed,
 * so that no service has it in hand meanwhile; its receipt, whatever it says, is made a
 * retry that is due, or a lease; what follows is what a service would do; and then the
 * transaction is rolled back.  No COMMIT is ever sent.
 *
 * One thread; a session of its own.
 */
#ifndef STRANDD_WORK_REHEARSE_H
#define STRANDD_WORK_REHEARSE_H

#include "handle/child.h"
#include "work/batch.h"

struct rehearsal {
	struct context context;		/* what of it a batch's statements need, no more */
	struct route_table *table;	/* of one route */
	struct session *session;
	struct delivery delivery;
	struct delivery *items[1];
	enum item_state states[1];
	struct batch batch;
	const char *id;			/* borrowed */
	unsigned attempt;
	bool once;			/* the route delivers at most once */
};

/* What the service would have come to. */
struct rehearsed {
	enum item_state state;		/* SETTLED, EXPIRED, RETRY, FAILED; PUT_OFF: at no cost, `why`
					 * says for what.  TAKEN: another has the strand, or a serial
					 * route's turn, in hand; GONE: there is nothing to be handled */
	struct err why;			/* of RETRY, FAILED and PUT_OFF */
	enum fault fault;		/* of `why` */
	PGresult *replies;		/* SETTLED: rows as JSON, in their order */
	char *receipt;			/* JSON; NULL: none was written */
};

/* Borrows all but `c`, which it needs for the call.  `stop_fd` ends each wait.
 * Errors of route_table_resolve_one and session_open. */
int rehearsal_open(struct rehearsal *r, const struct conf *conf, const struct conf_route *route,
		   const struct conn_target *target, struct conn *c, int stop_fd, struct err *e) MUST_CHECK;
void rehearsal_close(struct rehearsal *r);	/* takes a zeroed one */

/* Which strand the calls that follow are about, and the attempt that they say it is. */
void rehearsal_choose(struct rehearsal *r, const char *id, unsigned attempt);

/* The whole of it, for a handler that is a function.  0: *ret says what came of it. */
int rehearse_function(struct rehearsal *r, struct rehearsed *ret, struct err *e) MUST_CHECK;

/* For one that is a process, the transaction before it: as SETTLED, *ret_row is the row as
 * it is handed out, owned; or what the strand comes to without the process. */
int rehearse_hand_out(struct rehearsal *r, char **ret_row, struct rehearsed *ret, struct err *e) MUST_CHECK;
/* ... and the one behind it. */
int rehearse_answer(struct rehearsal *r, const struct exchange *x, struct rehearsed *ret, struct err *e) MUST_CHECK;

void rehearsed_release(struct rehearsed *d);

#endif
