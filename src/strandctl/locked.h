/* Statements that change tables in use: short lock requests, tried again.
 *
 * A lock request that waits in a table's queue stops every producer behind it,
 * so each gives up after LOCK_TIMEOUT_MS and is made again after a pause, until
 * --lock-wait is over; then the error names who held the lock.  Statements with
 * CONCURRENTLY stand in nobody's way and wait as long as they must.
 */
#ifndef STRANDD_STRANDCTL_LOCKED_H
#define STRANDD_STRANDCTL_LOCKED_H

#include "strandctl/ctl.h"
#include "strandctl/watch.h"

#define LOCK_TIMEOUT_MS 500

struct locked {
	struct ctl *ctl;
	struct watch *watch;
	char holder[300];	/* who has the turn while we wait for it, or "" */
};

/* How long something that others hold up has been tried. */
struct locked_wait {
	int64_t deadline, step_ms;
};

void locked_wait_start(struct locked_wait *w, const struct locked *l);
/* Pauses, longer each time; STRAND_ESTOPPED, or STRAND_ESYS when --lock-wait is
 * over, with who was seen in the way. */
int locked_wait(struct locked_wait *w, struct locked *l, const char *what, struct err *e) MUST_CHECK;

/* Waits until no other strandctl changes this database. */
int locked_start(struct locked *l, struct ctl *ctl, struct err *e) MUST_CHECK;
void locked_stop(struct locked *l);	/* also after a locked_start that failed */

/* A command that changes an installed database: connects, waits for its turn, runs
 * `fn`, tells its error; returns the exit code. */
typedef int locked_fn(struct locked *l, void *args, struct err *e);
int locked_command(struct ctl *ctl, locked_fn *fn, void *args);

/* As ctl_exec and ctl_query, with retries.  `what` is what is done, for messages.
 * Each is one transaction of its own. */
int locked_exec(struct locked *l, const char *what, const char *sql, struct err *e) MUST_CHECK;
int locked_query(struct locked *l, const char *what, const char *sql, int n_values,
		 const char *const *values, PGresult **ret_result, struct err *e) MUST_CHECK;

/* Runs each cell of the query's result as a statement outside a transaction.
 * When one cannot get its lock, the query is made again: what it returns
 * depends on what is still to be done. */
int locked_gexec(struct locked *l, const char *what, const char *query, int n_values,
		 const char *const *values, struct err *e) MUST_CHECK;

#endif
