/* Counters: one row of metric_table.c a metric, one block of numbers a thread.
 *
 * Numbers by route stand in slots.  A slot belongs to one (tag, source) for the
 * life of the struct: a route that is configured anew, or comes back, goes on in
 * its old one, so no counter ever goes backwards.
 *
 * metric_add is for hot paths: it adds to the calling thread's own block with
 * a relaxed atomic, no lock, no sharing.  Sums are made at scrape time.  A
 * block outlives its thread and is taken over by a later one, so nothing counted
 * is lost and threads that come and go do not pile blocks up.  Gauges are read at
 * scrape time from callbacks.
 *
 * A null `struct metrics` counts nothing: for programs that need no numbers.
 */
#ifndef STRANDD_STATS_METRIC_H
#define STRANDD_STATS_METRIC_H

#include <stdbool.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/err.h"

/* What each counts is told by its row in metric_table.c. */
enum metric {
	/* By route. */
	METRIC_NOTIFICATIONS,
	METRIC_DUPLICATES,
	METRIC_FORGED,
	METRIC_OVERFLOWS,
	METRIC_SETTLED,
	METRIC_FAILED,
	METRIC_EXPIRED,
	METRIC_RETRIED,
	METRIC_MARKED,
	METRIC_ODD_TIMEOUTS,
	METRIC_SUSPENSIONS,
	METRIC_REPLIES,
	METRIC_UNROUTED_TAGS,
	METRIC_BATCHES,
	METRIC_ROLLBACKS,
	METRIC_CONTENDED,
	METRIC_PUT_OFF,
	METRIC_SCAN_PASSES,
	METRIC_SCAN_ROWS,
	METRIC_SCAN_FOUND,
	/* Of the whole service: use METRIC_NO_ROUTE. */
	METRIC_RECONNECTS,
	METRIC_RELOADS,
	METRIC_RELOADS_REFUSED,
	METRIC_CLEANUP_RUNS,
	METRIC_CLEANUP_DELETED,
	METRIC_CLEANUP_RECEIPTS,
	METRIC_COUNT
};

#define METRIC_NO_ROUTE 0u

/* Slots there are; a daemon that needs more has changed its routes that often. */
#define METRIC_SLOTS_MAX 4096u

/* A gauge's value at scrape time, of one slot; called by the stats thread. */
typedef double metric_gauge_fn(void *arg, unsigned slot);

struct metrics;

int metrics_new(struct metrics **ret_metrics) MUST_CHECK;
void metrics_free(struct metrics *m);		/* after every thread is joined; takes NULL */

/* The slot of a route, a new one when there is none yet; the labels are copied.
 * Any thread.  STRAND_EFULL: METRIC_SLOTS_MAX are taken; STRAND_ENOMEM. */
int metric_slot(struct metrics *m, const char *tag, const char *source, unsigned *ret_slot) MUST_CHECK;

/* Any thread.  Never fails: out of memory, it counts in a block that all share.
 * A metric of the whole service does not look at `slot`. */
void metric_add(struct metrics *m, enum metric which, unsigned slot, uint64_t n);
uint64_t metric_sum(const struct metrics *m, enum metric which, unsigned slot);	/* any thread */

/* For what is told once and counted ever after: true to the first who asks in the life
 * of the struct, and without one to everybody.  Any thread. */
bool metric_first(struct metrics *m, enum metric which, unsigned slot);

/* Adds a gauge, by route (labelled) or of the whole service; before threads
 * start.  `name` is without the prefix: "queue_depth" is exposed as
 * strandd_queue_depth.  `name` and `help` are borrowed.  STRAND_EINVAL: a name
 * that Prometheus would not take, or one that is there already. */
int metric_gauge(struct metrics *m, const char *name, const char *help, bool by_route,
		 metric_gauge_fn *fn, void *arg) MUST_CHECK;

/* Prometheus text exposition format 0.0.4 of everything.  Any thread that may
 * call the gauges. */
void metrics_write(const struct metrics *m, struct buf *out);

#endif
