/* One run of the cleanup over all modules' tables, in batches.
 *
 * What may be deleted is decided by strandd.clean_strands and its kin in the
 * database (sql/29_cleanup.sql, 30_clean_receipts.sql); here is the order of a run:
 * receipts whose strands have been gone for long enough, then each table's old strands,
 * then a share of the search for receipts whose strands somebody deleted by hand
 * (`search`; or the last two the other way round, `search_first`).
 *
 * A struct sweep belongs to one thread.  After STRAND_ECONN, STRAND_ETIMEOUT or
 * STRAND_ESTOPPED its connection is broken, as conn.h has it; what the server still
 * runs of it is ended, and rolls back.  A run that was given up leaves nothing half
 * done, and the next one finds what is left.
 */
#ifndef STRANDD_CLEAN_SWEEP_H
#define STRANDD_CLEAN_SWEEP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/event.h"
#include "pg/conn.h"

struct sweep_config {
	int retention_days;
	int fence_hours;	/* a receipt stays this much longer than its strand */
	int batch;		/* rows a transaction */
	int64_t pause_ms;	/* between batches that deleted something */
	int64_t statement_ms;	/* most time for one batch; 0 = none */
	bool drop_unprocessed;
	bool dry_run;		/* count only; takes no lock */
	bool search;		/* for receipts whose strands somebody deleted by hand */
	bool search_first;	/* before the strands: in turn, where no run may come to its end */
};

/* Strands of one table, so far. */
struct sweep_counts {
	uint64_t seen;		/* older than the retention */
	uint64_t deleted;	/* with dry_run: would be */
	uint64_t kept;		/* lack a final receipt */
	uint64_t busy;		/* locked by somebody: met again by the next run */
	uint64_t refused;	/* another table refers to them, or a trigger refuses */
};

struct sweep_table {
	char oid[16];
	char name[300];		/* as SQL shows it */
	struct sweep_counts counts;
	char oldest_kept[164];	/* its id, cut; "" when none is kept */
	char oldest_kept_at[40];	/* ISO, UTC */
	char refusal[804];	/* what one of the refused ones was refused for, or "" */
	struct err failure;	/* the table was left for this reason; code 0: it was not */
};

struct sweep;
/* After each batch: tables[at] is the one at work, n_tables while receipts are. */
typedef void sweep_step_fn(const struct sweep *s, void *arg);

struct sweep {
	struct conn *conn;		/* borrowed */
	struct event *stop;		/* borrowed; signalled: give up */
	const struct sweep_config *config;	/* borrowed */
	sweep_step_fn *step;
	void *step_arg;
	struct sweep_table *tables;
	size_t n_tables, at;
	uint64_t receipts;		/* deleted; with dry_run: would be */
	char before[48], fence[48];	/* the database's times: strands and receipts older than these */
};

/* Takes the lock that lets one run go on at a time, in this session: *ret_holder
 * (for people: pid, user, program) is "" when it is ours. */
int sweep_lock(struct conn *c, int64_t deadline, char *ret_holder, size_t size, struct err *e) MUST_CHECK;

/* Sets the times and lists the tables: all, or the one with this oid.  The fields
 * conn to step_arg are the caller's; nothing else needs to be set. */
int sweep_start(struct sweep *s, const char *table_oid, struct err *e) MUST_CHECK;

/* The whole run.  A table that cannot be cleaned does not keep the others waiting:
 * see `failure`. */
int sweep_run(struct sweep *s, struct err *e) MUST_CHECK;
void sweep_release(struct sweep *s);	/* also after a sweep_start that failed */

struct sweep_counts sweep_total(const struct sweep *s);

#endif
