/* What is to be done next: the in-flight set and the lanes.
 *
 * Per route two lock-free FIFO lanes, high and normal (liburcu cds_lfq), and
 * over all of them one set of deliveries in flight (liburcu cds_lfht, keyed by
 * route and id) that drops what is already queued or running.  Bounded: a full
 * queue refuses, and the caller marks the route for scanning.
 *
 * Who may call: queue_offer, queue_nudge, queue_close and queue_open any thread;
 * queue_take, queue_take_closed, queue_finish, queue_forget and queue_return worker
 * threads, a delivery only by the worker that took it; the epochs and queue_has_room
 * the scanner; queue_new and queue_free the main thread, with no other thread inside.
 * Every caller is a registered liburcu reader, the main thread too, and not inside a
 * read-side section.
 * No call blocks except queue_wait, which takes a deadline; when more than 4 MiB of
 * finished deliveries wait for their grace period, queue_finish waits with them,
 * some milliseconds, so that memory is bounded.
 */
#ifndef STRANDD_QUEUE_QUEUE_H
#define STRANDD_QUEUE_QUEUE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "strand/delivery.h"

struct queue;

struct queue_config {
	unsigned n_routes;
	const unsigned *max_workers;	/* per route: workers on it at once, 0 = no cap; copied */
	const unsigned *batch;		/* per route: deliveries in a batch, 0 = the taker's max; copied */
	/* The bounds, of normal and of high deliveries each: so neither kind takes
	 * the other's room. */
	size_t max_entries;		/* queued or running */
	size_t max_per_route;		/* the same of one route, with that share of the bytes; 0: all */
	size_t max_bytes;		/* of their ids; a longer id is let in alone */
	unsigned n_workers;		/* 1..64 */
	unsigned reserved_for_high;	/* workers 0.. below it take high lanes only; < n_workers */
	unsigned normal_share_every;	/* after so many high batches in a row, taken while normal
					 * work waited, one normal batch goes first; 0: never.
					 * Reserved workers neither count nor are held to it. */
};

int queue_new(struct queue **ret_queue, const struct queue_config *config) MUST_CHECK;
void queue_free(struct queue *q);	/* frees what is still queued; takes NULL */

enum queue_answer {
	QUEUE_ADDED,
	QUEUE_DUPLICATE,	/* already queued or running */
	QUEUE_FULL,		/* refused: the bound, or out of memory */
};

enum queue_flags {
	QUEUE_HIGH = 1,		/* into the high lane */
	QUEUE_ALONE = 2,	/* sets delivery->alone */
};

/* Copies the id.  Wakes one idle worker that may take it.  `flags` of a duplicate
 * change nothing. */
enum queue_answer queue_offer(struct queue *q, unsigned route, const char *id, size_t id_len,
			      unsigned flags);

/* Worker `worker` takes up to `max` deliveries, or the route's own batch if that is
 * less, of ONE route and lane into `out`: high lanes of all routes first, then,
 * unless the worker is a reserved one, normal lanes, routes in turn.  Routes at
 * their cap and closed ones are passed over.  Returns how many; 0 when there is
 * nothing to do.  A non-zero return counts this worker on the route until
 * queue_leave. */
size_t queue_take(struct queue *q, unsigned worker, struct delivery **out, size_t max,
		  unsigned *ret_route);

/* The same from this route alone, whether it is closed or not, by any worker, and from
 * both its lanes: half of one, half of the other, which is first in turn; more of one
 * where the other has less.  0 also when it is at its cap. */
size_t queue_take_closed(struct queue *q, unsigned route, struct delivery **out, size_t max);

/* Of a closed route nothing is taken by queue_take, once the takes that had begun
 * are over, and nobody is woken for it; offers go in as ever, up to its share.
 * Routes are open at first. */
void queue_close(struct queue *q, unsigned route);
void queue_open(struct queue *q, unsigned route);	/* wakes, if something waits there */

/* The worker is done with the batch's route; wakes another if work is left. */
void queue_leave(struct queue *q, unsigned route);

void queue_finish(struct queue *q, struct delivery *d);	/* leaves the set, freed */
/* The same for a delivery whose strand was not there: if it was offered again
 * since it was taken, the strand may be there by now, and it is queued again. */
void queue_forget(struct queue *q, struct delivery *d);
void queue_return(struct queue *q, struct delivery *d);	/* to the end of its lane, still in flight */

/* Worker `worker` (0..n_workers-1) sleeps until there is work, `deadline`, or
 * `stop_fd` (-1: none) is readable.  STRAND_OK, STRAND_ETIMEOUT, STRAND_ESTOPPED. */
int queue_wait(struct queue *q, unsigned worker, int64_t deadline, int stop_fd);

/* Wakes one idle worker, if there is one, without work: its queue_wait returns. */
void queue_nudge(struct queue *q);

size_t queue_in_flight(const struct queue *q);	/* queued and running, all routes; for tests */

/* The same for one route.  Who offered (and was answered ADDED or DUPLICATE) and
 * then reads 0 knows that all of its offers are finished. */
size_t queue_in_flight_on(const struct queue *q, unsigned route);

/* Is at most half of the route's share taken, that of high deliveries (QUEUE_HIGH)
 * or those of both kinds (0)?  That is enough to keep the workers busy until the next
 * look, and leaves room for what a page may hold. */
bool queue_has_room(const struct queue *q, unsigned route, unsigned flags);

/* Epochs of one route, to learn when everything offered so far is finished while
 * new offers keep coming: as in epoch-based reclamation, two are told apart, and
 * the next one begins only when the one before the present is over.  One thread
 * (the scanner) calls both.
 * begin: false, and nothing done, when the last one is not over yet; else all
 * offers that this thread made before, and those of others that it was answered
 * QUEUE_DUPLICATE for, belong to the epoch that now ends.
 * over: every delivery of the epochs before the present one is finished. */
bool queue_epoch_begin(struct queue *q, unsigned route);
bool queue_epoch_over(const struct queue *q, unsigned route);

/* Does a high delivery wait that may be taken?  A moment old. */
bool queue_high_waits(const struct queue *q);

size_t queue_depth(const struct queue *q, unsigned route);	/* queued on one route */
unsigned queue_idle(const struct queue *q);			/* workers asleep for want of work; for tests */

/* One route at a glance, for people; the numbers may be a moment apart. */
struct queue_look {
	size_t high, normal;	/* queued in each lane */
	size_t in_flight;
	unsigned workers;	/* between queue_take and queue_leave */
	bool closed;
};
void queue_look(const struct queue *q, unsigned route, struct queue_look *ret);

#endif
