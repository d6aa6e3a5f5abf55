/* The scanner thread: exact catch-up.
 *
 * A notification is lost when nobody listens, when the queue is full, or when
 * its id is too long.  The scanner finds every committed strand that bears a
 * route's tag and has no receipt, without clocks and without id watermarks:
 * each pass takes a snapshot first; whatever may still commit is in progress in
 * that snapshot or newer, so the next pass reads only what is at or above its
 * xmax or was in its list.  The method is that of transactional queues such as
 * PgQ, with the list of transactions in progress instead of their lower bound.
 *
 * It also offers what is due: retries, at the database's time, and leases that
 * somebody left behind; and reads which routes are suspended.
 *
 * scanner_mark, _due, _wake_at, _look and _listening: any thread.  The rest: the main thread
 * (init, release) and the scanner's own.
 */
#ifndef STRANDD_SCAN_SCANNER_H
#define STRANDD_SCAN_SCANNER_H

#include <stdatomic.h>

#include "base/event.h"
#include "base/outage.h"
#include "scan/snapshot.h"
#include "strand/context.h"

/* Where a pass is: pages of high-priority strands first when it is a full one,
 * then ranges of xact_ids, each from `from` up to below `to`. */
struct scan_pass {
	struct snapshot now;	/* taken before the first page */
	bool high;		/* reading the high-priority index */
	size_t next_xip;	/* of `since`: the next one to look at */
	uint64_t from, to;	/* the range being read */
	int64_t hash;
};

/* How far the looks at urgent strands alone have come: see urgent.h. */
struct scan_urgent {
	uint64_t from;		/* the next one reads from here; 0: before the first pass */
	int64_t hash;
	uint64_t next_from;	/* the one after it, when that has read all */
	bool midway;
	int64_t look_at;	/* clock_now() based */
};

/* What the scanner knows of one route; its own thread's, but for the atomics. */
struct scan_route {
	_Atomic bool marked;	/* hints were dropped: a pass is wanted now */
	bool full;		/* the next pass starts at the recorded position */
	bool seen;		/* `since` holds the last completed pass's snapshot */
	struct snapshot since;
	bool running;		/* a pass is not finished; `pass` says where it is */
	struct scan_pass pass;
	struct scan_urgent urgent;
	int64_t next_at;	/* clock_now() based: its next turn, if nothing is marked before */
	struct outage trouble;	/* errors of this route's statements */
	uint64_t read_to;	/* no row was read at or above this xact_id */
	uint64_t position;	/* as this thread last read or wrote it */
	int64_t attached_at;	/* of the attachment that `since` belongs to, microseconds */
	uint64_t settled;	/* every strand below it is; 0: not known */
	uint64_t pending;	/* the next `settled`, when the queue's epoch is over; 0: none */
	int64_t recorded_at;
	bool prepared;		/* its statements, on the present connection */
	_Atomic int64_t due_at;	/* clock_now() based: the next retry is due; INT64_MAX: none known */
	_Atomic bool news;	/* a worker has written a retry since the last look at all that is due */
	int64_t look_at;	/* clock_now() based: the next look at the route's row, and at all that is due */
	int64_t looked_at;	/* when the last one was */
	char due_from[64];	/* the database's time up to which what is due has been offered */
};

struct scanner {
	const struct context *context;
	struct scan_route *routes;
	struct event event;	/* something was marked */
	_Atomic bool listening;	/* the first LISTEN is in force */
	struct conn *conn;	/* NULL while there is none */
};

int scanner_init(struct scanner *s, const struct context *x) MUST_CHECK;
void scanner_mark(struct scanner *s, unsigned route);
/* A retry of the route is due in `ms` milliseconds. */
void scanner_due(struct scanner *s, unsigned route, int64_t ms);
void scanner_wake_at(struct scanner *s, unsigned route, int64_t ms);	/* the same, of one that the scanner has seen */
void scanner_look(struct scanner *s);	/* an operator has changed a route's row */
void scanner_listening(struct scanner *s);	/* LISTEN is in force (again): look what was missed */
void scanner_run(void *scanner);		/* thread body; until STOP_DRAIN */
void scanner_release(struct scanner *s);

#endif
