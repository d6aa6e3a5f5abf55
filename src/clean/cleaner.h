/* The cleaner thread: runs the cleanup when it is due.
 *
 * When the last run was completed is kept in the database (strandd.cleanup), so a
 * restart neither skips a run nor repeats one; a run that was given up counts as
 * none.  Of several daemons one runs, the one that has the database's lock for it
 * (sweep_lock); the others look again a little later.  A connection is held only
 * while there is something to look up or to run.
 *
 * init and release: the main thread, around the thread's life.  Gauges: any thread.
 */
#ifndef STRANDD_CLEAN_CLEANER_H
#define STRANDD_CLEAN_CLEANER_H

#include "base/outage.h"
#include "clean/sweep.h"
#include "strand/context.h"

struct cleaner {
	const struct context *context;
	struct conn *conn;		/* NULL while there is none */
	struct outage outage;
	int batch;			/* rows: less than configured after one took too long */
	int64_t begun_at, told_at;	/* clock_now(): of the run at work, of its last line in the log */
	uint64_t counted_deleted, counted_receipts;	/* of the run at work, in the metrics already */
};

void cleaner_init(struct cleaner *c, const struct context *x);
void cleaner_run(void *cleaner);	/* thread body; until STOP_DRAIN */
void cleaner_release(struct cleaner *c);

/* Gauges for the metrics, of the last run that this process has completed: whatever
 * became of the struct that made it. */
double cleaner_kept(void *arg, unsigned route);
double cleaner_last_run_seconds(void *arg, unsigned route);

#endif
