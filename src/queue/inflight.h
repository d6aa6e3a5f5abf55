/* The set of deliveries in flight, queued or running, and its bounds.
 *
 * A lock-free hash table (liburcu cds_lfht) keyed by route and id.  The numbers
 * of entries and of id bytes are reserved before an entry is made and given
 * back after it has left, so neither bound is ever exceeded; but an id that is
 * longer than all the bytes allowed is let in alone, for it has to go through.
 * Normal and high ones are counted apart, each kind within the same bounds: so
 * neither takes the other's room.
 *
 * A lookup may read an entry that is just being removed; so its memory stays
 * for a grace period (see retire.h).
 *
 * inflight_init and inflight_release: nobody else inside.  All other calls: any
 * registered thread, outside a read-side section.
 */
#ifndef STRANDD_QUEUE_INFLIGHT_H
#define STRANDD_QUEUE_INFLIGHT_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>

#include <urcu.h>
#include <urcu/rculfhash.h>

#include "base/err.h"
#include "queue/lane.h"
#include "queue/queue.h"
#include "queue/siphash.h"
#include "strand/delivery.h"

/* What an offer of a strand that is in flight leaves with its entry. */
enum hint {
	HINT_NONE,	/* not offered again since it was taken */
	HINT_AGAIN,	/* offered again: who looks at it has to look once more */
	HINT_LEAVING,	/* being forgotten: the offer must make an entry of its own */
};

/* One delivery and what the queue needs for it, in one block. */
struct entry {
	struct rcu_head rcu;		/* first, for retire() */
	struct cds_lfht_node in_set;
	struct lane_node first;		/* its place in a lane when offered */
	struct delivery delivery;
	_Atomic enum hint hint;
	bool parity;			/* of its route's epoch when it was offered */
	char id[];
};

enum inflight_kind { INFLIGHT_NORMAL, INFLIGHT_HIGH, INFLIGHT_KINDS };

struct inflight {
	struct cds_lfht *set;
	struct siphash_key key;
	size_t max_entries, max_per_route, max_bytes, max_route_bytes;
	struct inflight_route *routes;
	_Alignas(64) _Atomic size_t entries[INFLIGHT_KINDS];
	_Atomic size_t bytes[INFLIGHT_KINDS];
};

struct inflight_route {
	/* by the parity of the epoch in which they were offered, too */
	_Atomic size_t entries[INFLIGHT_KINDS][2];
	_Atomic size_t bytes[INFLIGHT_KINDS];	/* of their ids */
	_Atomic bool parity;			/* of the present epoch */
};

/* `max_per_route` 0: no bound of a route's own; else it has the same share of the
 * bytes. */
int inflight_init(struct inflight *f, unsigned n_routes, size_t max_entries, size_t max_per_route,
		  size_t max_bytes) MUST_CHECK;
void inflight_release(struct inflight *f);	/* frees all that is in it; also after a failed init */

/* Copies the id.  *ret_entry belongs to the set until inflight_remove. */
enum queue_answer inflight_add(struct inflight *f, unsigned route, const char *id, size_t id_len,
			       unsigned flags, struct entry **ret_entry);

/* Takes `entry`: out of the set, and freed. */
void inflight_remove(struct inflight *f, struct entry *entry);

/* The same, unless the strand was offered since inflight_taken, which was answered
 * QUEUE_DUPLICATE and is now to be made good: then false, and the entry stays. */
bool inflight_forget(struct inflight *f, struct entry *entry);

/* Offers from now on count as new to inflight_forget. */
void inflight_taken(struct entry *entry);

struct entry *inflight_entry(struct delivery *d);	/* the one around `d` */
size_t inflight_count(const struct inflight *f);

/* Counted before an entry can be found and until it cannot: who was answered
 * QUEUE_DUPLICATE and then reads 0 knows that the other one is finished. */
size_t inflight_count_on(const struct inflight *f, unsigned route);

bool inflight_has_room(const struct inflight *f, unsigned route, enum inflight_kind kind);	/* see queue_has_room */

/* See queue_epoch_begin and queue_epoch_over. */
bool inflight_epoch_begin(struct inflight *f, unsigned route);
bool inflight_epoch_over(const struct inflight *f, unsigned route);

#endif
