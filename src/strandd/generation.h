/* A generation: one configuration and everything that serves it.
 *
 * Route table, queue, scanner, marker, cleaner, workers, listener; what lives as long as
 * the process (signals, metrics, stats, log) is in service.h.  A reload starts a new generation
 * beside the old one and then tells the old one to drain, as two instances would
 * hand over: what the old one has in memory only, the new one's scan finds, and
 * receipts and advisory locks settle each strand once.
 *
 * Main thread only, but for the threads' bodies and what they may call by their own
 * headers.  A generation is freed when none of its threads runs any more, so the
 * main thread never waits for one.
 */
#ifndef STRANDD_STRANDD_GENERATION_H
#define STRANDD_STRANDD_GENERATION_H

#include "base/thread.h"
#include "clean/cleaner.h"
#include "handle/supervisor.h"
#include "instance/keeper.h"
#include "listen/listener.h"
#include "mark/marker.h"
#include "scan/scanner.h"
#include "strand/context.h"
#include "strand/suspension.h"
#include "work/again.h"
#include "work/worker.h"

/* One thread of a generation. */
struct member {
	struct generation *generation;
	struct thread thread;
	thread_fn *fn;
	void *arg;
};

/* Workers that share one queue: the pool, which serves all SQL handlers' routes, or
 * those of one process handler's route, a thread for each of its processes.  So a
 * handler that hangs holds up its own route alone. */
struct crew {
	struct queue *queue;
	struct again again;
	size_t n_workers;
	struct worker *workers;
	struct member *members;
	struct child **children;	/* by worker; NULL: the pool */
	unsigned route;			/* of a process handler */
};

struct generation {
	struct generation *older;	/* the service's list, the newest first */
	unsigned number;		/* 1 for the one that the process started with */
	const struct conf *conf;
	struct conf *owned;		/* the same, when it goes with the generation */
	struct conn_target target;
	struct supervisor *supervisor;	/* borrowed */
	struct stop stop;		/* its own; the process's stop raises it too */
	struct route_table *routes;	/* owned */
	size_t n_crews;
	struct crew *crews;		/* the pool first */
	struct queue **queues;		/* by route: its crew's */
	struct progress progress;
	struct context context;
	struct suspensions suspensions;
	struct scanner scanner;
	struct marker marker;
	struct cleaner_past *cleaner_past;	/* borrowed; the process's */
	struct cleaner cleaner;
	struct keeper keeper;
	struct listener listener;
	struct member scanner_member, marker_member, cleaner_member, keeper_member, listener_member;
	_Atomic int threads_running;
	size_t started;			/* parts, see generation.c */
	bool ready;			/* was ready, and the older ones were told to drain */
	bool leaving;			/* was told to stop */
	int64_t started_at;		/* clock_now() based */
};

/* What of the process a generation borrows. */
struct generation_frame {
	struct metrics *metrics;
	struct cleaner_past *cleaner_past;
	struct supervisor *supervisor;
	struct event *news;	/* signalled when a thread ends or tells of progress */
};

/* Takes `routes`, and `owned` (NULL: `conf` is borrowed for the process's life),
 * also on failure.  No thread runs yet. */
int generation_new(struct generation **ret_generation, const struct conf *conf, struct conf *owned,
		   struct route_table *routes, const struct generation_frame *frame,
		   struct err *e) MUST_CHECK;

/* Starts the parts.  After a failure some threads may run: generation_stop, and
 * free it when it has ended. */
int generation_start(struct generation *g, struct err *e) MUST_CHECK;

void generation_stop(struct generation *g, enum stop_level level);

/* Ready: its routes are resolved, LISTEN is in force (where notifications are
 * enabled) and the scanner's first pass has begun. */
bool generation_is_ready(const struct generation *g);
bool generation_has_ended(const struct generation *g);	/* none of its threads runs */
unsigned generation_batches(const struct generation *g);	/* taken, and not over yet */

void generation_free(struct generation *g);	/* after it has ended, or was never started */

#endif
