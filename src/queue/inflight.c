#include "queue/inflight.h"

#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include "base/clock.h"
#include "base/tsan.h"
#include "queue/container.h"
#include "queue/retire.h"
#include "queue/sleep.h"

#define MIN_BUCKETS 1024UL	/* 16 KiB; smaller is not worth a resize */
#define MAX_BUCKETS (1UL << 20)

struct set_key {
	unsigned route;
	const char *id;
	size_t id_len;
};

int inflight_init(struct inflight *f, unsigned n_routes, size_t max_entries, size_t max_per_route,
		  size_t max_bytes)
{
	unsigned long max_buckets = MIN_BUCKETS;

	memset(f, 0, sizeof(*f));
	f->room.fd = -1;
	f->max_entries = max_entries;
	f->max_per_route = max_per_route;
	f->max_bytes = max_bytes;
	while (max_buckets < max_entries && max_buckets < MAX_BUCKETS)
		max_buckets *= 2;

	if (getrandom(&f->key, sizeof(f->key), 0) != (ssize_t)sizeof(f->key))
		return STRAND_ESYS;
	f->on_route = calloc(n_routes, sizeof(*f->on_route));
	if (!f->on_route)
		return STRAND_ENOMEM;
	if (event_init(&f->room))
		return STRAND_ESYS;
	HANDOVER_OPAQUE_BEGIN();
	f->set = cds_lfht_new(MIN_BUCKETS, MIN_BUCKETS, max_buckets,
			      CDS_LFHT_AUTO_RESIZE | CDS_LFHT_ACCOUNTING, NULL);
	HANDOVER_OPAQUE_END();
	return f->set ? 0 : STRAND_ENOMEM;
}

static void remove_all(struct inflight *f)
{
	struct cds_lfht_iter at;
	struct cds_lfht_node *node;
	struct entry *all = NULL;

	rcu_read_lock();
	cds_lfht_for_each(f->set, &at, node) {
		struct entry *entry = container_of(node, struct entry, in_set);

		HANDOVER_TAKE(entry);
		cds_lfht_del(f->set, node);
		/* The place in a lane is free by now; it holds the list. */
		entry->first.delivery = all ? &all->delivery : NULL;
		all = entry;
	}
	rcu_read_unlock();
	/* The table's own thread may still be passing them. */
	synchronize_rcu();
	while (all) {
		struct delivery *next = all->first.delivery;

		free(all);
		all = next ? inflight_entry(next) : NULL;
	}
}

void inflight_release(struct inflight *f)
{
	if (f->set) {
		remove_all(f);
		HANDOVER_OPAQUE_BEGIN();
		cds_lfht_destroy(f->set, NULL);
		HANDOVER_OPAQUE_END();
		f->set = NULL;
	}
	event_release(&f->room);
	free(f->on_route);
	f->on_route = NULL;
}

static unsigned long hash(const struct inflight *f, const struct set_key *k)
{
	/* One key per route: the same id on several routes is spread. */
	struct siphash_key key = { f->key.k0 ^ k->route, f->key.k1 };

	return (unsigned long)siphash(key, k->id, k->id_len);
}

/* Called by the table, inside a read-side section. */
static int match(struct cds_lfht_node *node, const void *arg)
{
	struct entry *entry = container_of(node, struct entry, in_set);
	const struct set_key *k = arg;
	const struct delivery *d = &entry->delivery;
	int equal;

	HANDOVER_TAKE(entry);
	equal = d->route == k->route && d->id_len == k->id_len &&
		memcmp(d->id, k->id, k->id_len) == 0;
	HANDOVER_GIVE(entry);
	return equal;
}

/* The same for cds_lfht_add_unique, which may order a resize. */
static int match_in_add(struct cds_lfht_node *node, const void *arg)
{
	int equal;

	HANDOVER_OPAQUE_END();
	equal = match(node, arg);
	HANDOVER_OPAQUE_BEGIN();
	return equal;
}

/* Tells whoever holds the entry that the strand was offered again.  False when
 * the entry has left the set meanwhile: the offer is not answered by it.
 * Read side section. */
static bool hint(struct cds_lfht_node *node)
{
	struct entry *entry = container_of(node, struct entry, in_set);
	bool there;

	/* Sequentially consistent, and liburcu's barrier because the look at the
	 * node is liburcu's: either inflight_forget sees the hint, or we see the
	 * removal. */
	atomic_store_explicit(&entry->hinted, true, memory_order_seq_cst);
	cmm_smp_mb();
	there = !cds_lfht_is_node_deleted(node);
	HANDOVER_GIVE(entry);	/* to who frees it after our read-side section */
	return there;
}

static bool present(struct inflight *f, unsigned long h, const struct set_key *k)
{
	struct cds_lfht_iter at;
	struct cds_lfht_node *node;
	bool found;

	rcu_read_lock();
	cds_lfht_lookup(f->set, h, match, k, &at);
	node = cds_lfht_iter_get_node(&at);
	found = node && hint(node);
	rcu_read_unlock();
	return found;
}

static bool reserve_entry(struct inflight *f, unsigned route)
{
	/* Relaxed: the exchange decides. */
	size_t now = atomic_load_explicit(&f->entries, memory_order_relaxed);

	/* Relaxed, and checked apart from the addition: a route's own bound keeps it
	 * from taking all room, and a few more do no harm. */
	if (f->max_per_route &&
	    atomic_load_explicit(&f->on_route[route], memory_order_relaxed) >= f->max_per_route)
		return false;
	do {
		if (now >= f->max_entries)
			return false;
		/* Relaxed: a number, it publishes nothing. */
	} while (!atomic_compare_exchange_weak_explicit(&f->entries, &now, now + 1,
			memory_order_relaxed, memory_order_relaxed));
	/* Release, with the set's own barriers: counted before it is found. */
	atomic_fetch_add_explicit(&f->on_route[route], 1, memory_order_release);
	return true;
}

static bool reserve_bytes(struct inflight *f, size_t n)
{
	/* Relaxed, all three: numbers, they publish nothing. */
	size_t now = atomic_load_explicit(&f->bytes, memory_order_relaxed);

	do {
		if (now && (n > f->max_bytes || now > f->max_bytes - n)) {
			if (n > atomic_load_explicit(&f->refused, memory_order_relaxed))
				atomic_store_explicit(&f->refused, n, memory_order_relaxed);
			return false;
		}
	} while (!atomic_compare_exchange_weak_explicit(&f->bytes, &now, now + n,
			memory_order_relaxed, memory_order_relaxed));
	return true;
}

/* Is there room, as inflight_wait_room means it? */
static bool room(const struct inflight *f, size_t wanted)
{
	/* Sequentially consistent: see give_back. */
	size_t entries = atomic_load_explicit(&f->entries, memory_order_seq_cst);
	size_t bytes = atomic_load_explicit(&f->bytes, memory_order_seq_cst);
	/* Relaxed: set by the waiter itself, or of no consequence to it. */
	size_t refused = atomic_load_explicit(&f->refused, memory_order_relaxed);
	double share = (double)wanted / (double)f->max_entries * (double)f->max_bytes;

	return entries < wanted &&
	       (bytes == 0 || ((double)bytes <= share && refused <= f->max_bytes &&
			       bytes <= f->max_bytes - refused));
}

/* Lowers the numbers and wakes who waits for that. */
static void give_back(struct inflight *f, unsigned route, size_t bytes)
{
	size_t wanted;

	/* Release: who reads 0 sees that the entry is out of the set. */
	atomic_fetch_sub_explicit(&f->on_route[route], 1, memory_order_release);
	/* Sequentially consistent, with the load of `wanted`: either the waiter
	 * sees the lower numbers or we see that it waits. */
	atomic_fetch_sub_explicit(&f->bytes, bytes, memory_order_seq_cst);
	atomic_fetch_sub_explicit(&f->entries, 1, memory_order_seq_cst);
	wanted = atomic_load_explicit(&f->wanted, memory_order_seq_cst);
	/* Relaxed: the event carries the order; the exchange makes it one signal. */
	if (wanted && room(f, wanted) &&
	    atomic_compare_exchange_strong_explicit(&f->wanted, &wanted, 0,
			memory_order_relaxed, memory_order_relaxed))
		event_signal(&f->room);
}

static struct entry *entry_new(const struct set_key *k, bool high)
{
	struct entry *entry = malloc(sizeof(*entry) + k->id_len + 1);

	if (!entry)
		return NULL;
	memset(entry, 0, sizeof(*entry));
	memcpy(entry->id, k->id, k->id_len);
	entry->id[k->id_len] = '\0';
	entry->delivery.route = k->route;
	entry->delivery.high = high;
	entry->delivery.offered_at = clock_now();
	entry->delivery.id_len = k->id_len;
	entry->delivery.id = entry->id;
	return entry;
}

/* Makes an entry and adds it, the bounds being reserved. */
static enum queue_answer add_reserved(struct inflight *f, unsigned long h, const struct set_key *k,
				      bool high, struct entry **ret_entry)
{
	struct entry *entry = entry_new(k, high);
	struct cds_lfht_node *there;

	if (!entry)
		return QUEUE_FULL;
	cds_lfht_node_init(&entry->in_set);
	HANDOVER_GIVE(entry);
	rcu_read_lock();
	do {
		HANDOVER_OPAQUE_BEGIN();
		there = cds_lfht_add_unique(f->set, h, match_in_add, k, &entry->in_set);
		HANDOVER_OPAQUE_END();
	} while (there != &entry->in_set && !hint(there));
	rcu_read_unlock();
	if (there != &entry->in_set) {
		free(entry);	/* nobody saw it */
		return QUEUE_DUPLICATE;
	}
	*ret_entry = entry;
	return QUEUE_ADDED;
}

enum queue_answer inflight_add(struct inflight *f, unsigned route, const char *id, size_t id_len,
			       bool high, struct entry **ret_entry)
{
	struct set_key k = { route, id, id_len };
	unsigned long h = hash(f, &k);
	enum queue_answer answer;

	/* Most hints come twice (announced and scanned): the second costs no memory. */
	if (present(f, h, &k))
		return QUEUE_DUPLICATE;
	if (!reserve_entry(f, route))
		return QUEUE_FULL;
	if (!reserve_bytes(f, id_len)) {
		give_back(f, route, 0);
		return QUEUE_FULL;
	}
	answer = add_reserved(f, h, &k, high, ret_entry);
	if (answer != QUEUE_ADDED)
		give_back(f, route, id_len);
	return answer;
}

static void leave_set(struct inflight *f, struct entry *entry)
{
	rcu_read_lock();
	HANDOVER_OPAQUE_BEGIN();	/* it may order a resize */
	cds_lfht_del(f->set, &entry->in_set);
	HANDOVER_OPAQUE_END();
	rcu_read_unlock();
}

void inflight_remove(struct inflight *f, struct entry *entry)
{
	unsigned route = entry->delivery.route;
	size_t id_len = entry->delivery.id_len;

	leave_set(f, entry);
	retire(&entry->rcu);
	give_back(f, route, id_len);
}

static bool was_hinted(const struct entry *entry)
{
	/* Sequentially consistent: see hint. */
	return atomic_load_explicit(&entry->hinted, memory_order_seq_cst);
}

void inflight_taken(struct entry *entry)
{
	/* Sequentially consistent: an offer that comes later is seen, and what
	 * was committed before an earlier one is visible to the claim. */
	atomic_store_explicit(&entry->hinted, false, memory_order_seq_cst);
}

struct entry *inflight_forget(struct inflight *f, struct entry *entry)
{
	struct delivery *d = &entry->delivery;
	struct set_key k = { d->route, d->id, d->id_len };
	struct entry *next = NULL;

	if (was_hinted(entry))
		return entry;
	leave_set(f, entry);
	cmm_smp_mb();	/* see hint */
	/* Its reservation passes on; without memory, or when the strand is in the
	 * set again by another's offer, it is given back. */
	if (!was_hinted(entry) || add_reserved(f, hash(f, &k), &k, d->high, &next) != QUEUE_ADDED)
		give_back(f, d->route, d->id_len);
	retire(&entry->rcu);
	return next;
}

struct entry *inflight_entry(struct delivery *d)
{
	return container_of(d, struct entry, delivery);
}

size_t inflight_count(const struct inflight *f)
{
	/* Relaxed: a number for people. */
	return atomic_load_explicit(&f->entries, memory_order_relaxed);
}

size_t inflight_count_on(const struct inflight *f, unsigned route)
{
	/* Acquire: what was done before the last one was finished is seen. */
	return atomic_load_explicit(&f->on_route[route], memory_order_acquire);
}

int inflight_wait_room(struct inflight *f, size_t entries, int64_t deadline, int stop_fd)
{
	size_t wanted = entries ? entries : 1;
	int r = 0;

	while (r == 0) {
		/* A signal that came too late for an earlier wait. */
		event_clear(&f->room);
		/* Sequentially consistent: see give_back. */
		atomic_store_explicit(&f->wanted, wanted, memory_order_seq_cst);
		if (room(f, wanted))
			break;
		r = sleep_on(&f->room, deadline, stop_fd);
	}
	/* Relaxed, both: a signal too many is cleared by the next wait; who is
	 * refused again says so again. */
	atomic_store_explicit(&f->wanted, 0, memory_order_relaxed);
	if (r == 0)
		atomic_store_explicit(&f->refused, 0, memory_order_relaxed);
	return r;
}
