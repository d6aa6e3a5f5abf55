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

int inflight_init(struct inflight *f, size_t max_entries, size_t max_bytes)
{
	unsigned long max_buckets = MIN_BUCKETS;

	memset(f, 0, sizeof(*f));
	f->room.fd = -1;
	f->max_entries = max_entries;
	f->max_bytes = max_bytes;
	while (max_buckets < max_entries && max_buckets < MAX_BUCKETS)
		max_buckets *= 2;

	if (getrandom(&f->key, sizeof(f->key), 0) != (ssize_t)sizeof(f->key))
		return STRAND_ESYS;
	if (event_init(&f->room))
		return STRAND_ESYS;
	HANDOVER_OPAQUE_BEGIN();
	f->set = cds_lfht_new(MIN_BUCKETS, MIN_BUCKETS, max_buckets,
			      CDS_LFHT_AUTO_RESIZE | CDS_LFHT_ACCOUNTING, NULL);
	HANDOVER_OPAQUE_END();
	if (!f->set) {
		event_release(&f->room);
		return STRAND_ENOMEM;
	}
	return 0;
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
	if (!f->set)
		return;
	remove_all(f);
	HANDOVER_OPAQUE_BEGIN();
	cds_lfht_destroy(f->set, NULL);
	HANDOVER_OPAQUE_END();
	f->set = NULL;
	event_release(&f->room);
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

static bool present(struct inflight *f, unsigned long h, const struct set_key *k)
{
	struct cds_lfht_iter at;
	bool found;

	rcu_read_lock();
	cds_lfht_lookup(f->set, h, match, k, &at);
	found = cds_lfht_iter_get_node(&at);
	rcu_read_unlock();
	return found;
}

/* Raises *count by n unless that would exceed max. */
static bool reserve(_Atomic size_t *count, size_t n, size_t max)
{
	/* Relaxed: the exchange decides. */
	size_t now = atomic_load_explicit(count, memory_order_relaxed);

	do {
		if (n > max || now > max - n)
			return false;
		/* Relaxed: a number, it publishes nothing. */
	} while (!atomic_compare_exchange_weak_explicit(count, &now, now + n,
			memory_order_relaxed, memory_order_relaxed));
	return true;
}

static void give_back_bytes(struct inflight *f, size_t n)
{
	/* Relaxed: a number, it publishes nothing. */
	atomic_fetch_sub_explicit(&f->bytes, n, memory_order_relaxed);
}

/* Lowers the number of entries and wakes who waits for that. */
static void give_back_entry(struct inflight *f)
{
	/* Sequentially consistent, with the load of `wanted`: either the waiter
	 * sees the lower number or we see that it waits. */
	size_t now = atomic_fetch_sub_explicit(&f->entries, 1, memory_order_seq_cst) - 1;
	size_t wanted = atomic_load_explicit(&f->wanted, memory_order_seq_cst);

	/* Relaxed: the event carries the order; the exchange makes it one signal. */
	if (now < wanted &&
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
	HANDOVER_OPAQUE_BEGIN();
	there = cds_lfht_add_unique(f->set, h, match_in_add, k, &entry->in_set);
	HANDOVER_OPAQUE_END();
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
	enum queue_answer answer = QUEUE_FULL;

	/* Most hints come twice (announced and scanned): the second costs no memory. */
	if (present(f, h, &k))
		return QUEUE_DUPLICATE;
	if (!reserve(&f->entries, 1, f->max_entries))
		return QUEUE_FULL;
	if (!reserve(&f->bytes, id_len, f->max_bytes))
		goto no_bytes;
	answer = add_reserved(f, h, &k, high, ret_entry);
	if (answer == QUEUE_ADDED)
		return answer;
	give_back_bytes(f, id_len);
no_bytes:
	give_back_entry(f);
	return answer;
}

void inflight_remove(struct inflight *f, struct entry *entry)
{
	size_t id_len = entry->delivery.id_len;

	rcu_read_lock();
	HANDOVER_OPAQUE_BEGIN();	/* it may order a resize */
	cds_lfht_del(f->set, &entry->in_set);
	HANDOVER_OPAQUE_END();
	rcu_read_unlock();
	retire(&entry->rcu);
	give_back_bytes(f, id_len);
	give_back_entry(f);
}

struct entry *inflight_entry(struct delivery *d)
{
	return container_of(d, struct entry, delivery);
}

size_t inflight_count(const struct inflight *f)
{
	/* Sequentially consistent: see give_back_entry. */
	return atomic_load_explicit(&f->entries, memory_order_seq_cst);
}

int inflight_wait_room(struct inflight *f, size_t entries, int64_t deadline, int stop_fd)
{
	int r = 0;

	while (r == 0) {
		/* A signal that came too late for an earlier wait. */
		event_clear(&f->room);
		/* Sequentially consistent: see give_back_entry. */
		atomic_store_explicit(&f->wanted, entries, memory_order_seq_cst);
		if (inflight_count(f) < entries)
			break;
		r = sleep_on(&f->room, deadline, stop_fd);
	}
	/* Relaxed: a signal too many is cleared by the next wait. */
	atomic_store_explicit(&f->wanted, 0, memory_order_relaxed);
	return r;
}
