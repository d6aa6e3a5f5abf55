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

#include <stdatomic.h>

#include "base/outage.h"
#include "strand/context.h"

/* Of all cleaners of the process: what outlives the struct that made it.  All zero at
 * first; atomic, because the stats thread reads it. */
struct cleaner_past {
	/* Of the last completed run: */
	_Atomic uint64_t kept;
	_Atomic int64_t run_ms;
	_Atomic unsigned runs_begun;
};

struct cleaner {
	const struct context *context;
	struct cleaner_past *past;	/* borrowed */
	struct conn *conn;		/* NULL while there is none */
	struct outage outage;
	int batch;			/* rows: less than configured after one took too long */
	int64_t begun_at, told_at;	/* clock_now(): of the run at work, of its last line in the log */
	uint64_t counted_deleted, counted_receipts;	/* of the run at work, in the metrics already */
};

void cleaner_init(struct cleaner *c, const struct context *x, struct cleaner_past *past);
void cleaner_run(void *cleaner);	/* thread body; until STOP_DRAIN */
void cleaner_release(struct cleaner *c);

/* Gauges for the metrics, of the last run that this process has completed. */
double cleaner_kept(void *past, unsigned route);
double cleaner_last_run_seconds(void *past, unsigned route);

#endif
