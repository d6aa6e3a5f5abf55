/* A lane: a lock-free FIFO of deliveries (liburcu cds_lfq) and their number.
 *
 *	          push  take  queued  drain
 *	push       ok    ok    ok      no
 *	take       ok    ok    ok      no
 *	queued     ok    ok    ok      ok
 *	drain      no    no    ok      no
 *
 * `queued` counts like a semaphore.  A push raises it after its node is in the
 * FIFO; a take lowers it before it removes as many nodes as it lowered it by.
 * So the FIFO always holds at least what takers have claimed: a claim is never
 * disappointed, and `queued` above 0 means exactly that there is something to
 * take.
 *
 * A node that was taken may be neither reused nor freed before a grace period.
 * The first push of a delivery uses a node inside its owner's block, which
 * lives that long anyway; a later push allocates one.
 *
 * Callers are registered readers, outside a read-side section.
 */
#ifndef STRANDD_QUEUE_LANE_H
#define STRANDD_QUEUE_LANE_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>

#include <urcu.h>
#include <urcu/rculfqueue.h>

#include "base/err.h"
#include "strand/delivery.h"

struct lane_node {
	struct cds_lfq_node_rcu link;
	struct delivery *delivery;	/* borrowed */
	bool allocated;			/* by lane_push_again */
};

struct lane {
	/* Apart, so that looking for work does not disturb those at the ends. */
	_Alignas(64) struct cds_lfq_queue_rcu fifo;
	_Alignas(64) _Atomic size_t queued;
};

void lane_init(struct lane *l);
void lane_release(struct lane *l);	/* drained; no other thread inside */

/* Puts `d` at the end.  Borrows `node` until a grace period after `d` is taken.
 * The count is raised with a sequentially consistent operation, so that a
 * following load of the same kind cannot come before it. */
void lane_push(struct lane *l, struct lane_node *node, struct delivery *d);

/* The same with a node of its own.  STRAND_ENOMEM. */
int lane_push_again(struct lane *l, struct delivery *d) MUST_CHECK;

/* Takes up to `max` deliveries from the front; returns how many, 0 when empty. */
size_t lane_take(struct lane *l, struct delivery **out, size_t max);

/* Drops all nodes; the deliveries are the caller's.  No other thread inside. */
void lane_drain(struct lane *l);

size_t lane_queued(const struct lane *l);	/* sequentially consistent */

#endif
