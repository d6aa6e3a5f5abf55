#include "queue/inflight.h"

#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include "base/tsan.h"
#include "queue/container.h"
#include "queue/inflight_bounds.h"
#include "queue/retire.h"

#define MAX_BUCKETS (1UL << 18)	/* 4 MiB; with more entries than that the chains grow longer */

struct set_key {
	unsigned route;
	const char *id;
	size_t id_len;
};

int inflight_init(struct inflight *f, unsigned n_routes, size_t max_entries, size_t max_per_route,
		  size_t max_bytes)
{
	unsigned long buckets = 1;

	memset(f, 0, sizeof(*f));
	f->max_entries = max_entries;
	f->max_per_route = max_per_route ? max_per_route : max_entries;
	f->max_bytes = max_bytes;
	f->max_route_bytes = (size_t)((double)max_bytes * (double)f->max_per_route / (double)max_entries);
	while (buckets < max_entries && buckets < MAX_BUCKETS)
		buckets *= 2;

	if (getrandom(&f->key, sizeof(f->key), 0) != (ssize_t)sizeof(f->key))
		return STRAND_ESYS;
	f->routes = calloc(n_routes, sizeof(*f->routes));
	if (!f->routes)
		return STRAND_ENOMEM;
	/* A bucket an entry from the start: the number of entries is bounded, and
	 * resizing would take a thread of the table's own. */
	f->set = cds_lfht_new(buckets, buckets, buckets, 0, NULL);
	return f->set ? 0 : STRAND_ENOMEM;
}

static void remove_all(struct inflight *f)
{
	struct cds_lfht_iter at;
	struct cds_lfht_node *node;

	rcu_read_lock();
	cds_lfht_for_each(f->set, &at, node) {
		struct entry *entry = container_of(node, struct entry, in_set);

		HANDOVER_TAKE(entry);
		cds_lfht_del(f->set, node);
		free(entry);	/* nobody else is inside, and the iterator is past it */
	}
	rcu_read_unlock();
}

void inflight_release(struct inflight *f)
{
	if (f->set) {
		remove_all(f);
		cds_lfht_destroy(f->set, NULL);
		f->set = NULL;
	}
	free(f->routes);
	f->routes = NULL;
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

/* Tells whoever holds the entry that the strand was offered again.  False when
 * the entry is being forgotten: the offer is not answered by it.  Read side. */
static bool hint(struct entry *entry)
{
	enum hint now = HINT_NONE;

	/* Sequentially consistent, as all of `hint`: either inflight_forget sees
	 * the offer, or the offer sees that the entry leaves. */
	return atomic_compare_exchange_strong_explicit(&entry->hint, &now, HINT_AGAIN,
			memory_order_seq_cst, memory_order_seq_cst) ||
	       now == HINT_AGAIN;
}

/* Is the offer answered by this node?  If not, the node is on its way out, and
 * *ret_gone is the entry if it was we who took it out: the caller retires it
 * outside the read-side section.  Nobody waits for the one who forgets it. */
static bool answered_by(struct inflight *f, struct cds_lfht_node *node, struct entry **ret_gone)
{
	struct entry *entry = container_of(node, struct entry, in_set);
	bool answered = hint(entry);

	*ret_gone = !answered && cds_lfht_del(f->set, node) == 0 ? entry : NULL;
	HANDOVER_GIVE(entry);	/* to who frees it after our read-side section */
	return answered;
}

/* Is it in the set?  If so, its holder is told, as by an offer. */
static bool present(struct inflight *f, unsigned long h, const struct set_key *k)
{
	struct cds_lfht_iter at;
	struct cds_lfht_node *node;
	struct entry *gone = NULL;
	bool found;

	rcu_read_lock();
	cds_lfht_lookup(f->set, h, match, k, &at);
	node = cds_lfht_iter_get_node(&at);
	found = node && answered_by(f, node, &gone);
	rcu_read_unlock();
	if (gone)
		retire(&gone->rcu);
	return found;
}

static enum inflight_kind kind_of(const struct entry *entry)
{
	return entry->delivery.high ? INFLIGHT_HIGH : INFLIGHT_NORMAL;
}

static struct entry *entry_new(const struct set_key *k, bool parity, unsigned flags)
{
	struct entry *entry = malloc(sizeof(*entry) + k->id_len + 1);

	if (!entry)
		return NULL;
	memset(entry, 0, sizeof(*entry));
	memcpy(entry->id, k->id, k->id_len);
	entry->id[k->id_len] = '\0';
	entry->parity = parity;
	entry->delivery.route = k->route;
	entry->delivery.high = flags & QUEUE_HIGH;
	entry->delivery.alone = flags & QUEUE_ALONE;
	entry->delivery.id_len = k->id_len;
	entry->delivery.id = entry->id;
	return entry;
}

/* Makes an entry and adds it, the bounds being reserved. */
static enum queue_answer add_reserved(struct inflight *f, unsigned long h, const struct set_key *k,
				      bool parity, unsigned flags, struct entry **ret_entry)
{
	struct entry *entry = entry_new(k, parity, flags);
	struct entry *gone = NULL;
	struct cds_lfht_node *there;
	bool added, answered = false;

	if (!entry)
		return QUEUE_FULL;
	cds_lfht_node_init(&entry->in_set);
	HANDOVER_GIVE(entry);
	do {
		rcu_read_lock();
		there = cds_lfht_add_unique(f->set, h, match, k, &entry->in_set);
		added = there == &entry->in_set;
		if (!added)
			answered = answered_by(f, there, &gone);
		rcu_read_unlock();
		if (gone)
			retire(&gone->rcu);
		gone = NULL;
	} while (!added && !answered);
	if (!added) {
		free(entry);	/* nobody saw it */
		return QUEUE_DUPLICATE;
	}
	*ret_entry = entry;
	return QUEUE_ADDED;
}

enum queue_answer inflight_add(struct inflight *f, unsigned route, const char *id, size_t id_len,
			       unsigned flags, struct entry **ret_entry)
{
	struct set_key k = { route, id, id_len };
	unsigned long h = hash(f, &k);
	enum inflight_kind kind = flags & QUEUE_HIGH ? INFLIGHT_HIGH : INFLIGHT_NORMAL;
	enum queue_answer answer;
	bool parity;

	if (!inflight_reserve(f, route, kind, id_len, &parity))
		return present(f, h, &k) ? QUEUE_DUPLICATE : QUEUE_FULL;
	answer = add_reserved(f, h, &k, parity, flags, ret_entry);
	if (answer != QUEUE_ADDED)
		inflight_give_back(f, route, kind, parity, id_len);
	return answer;
}

void inflight_remove(struct inflight *f, struct entry *entry)
{
	unsigned route = entry->delivery.route;
	size_t id_len = entry->delivery.id_len;
	enum inflight_kind kind = kind_of(entry);
	bool parity = entry->parity;

	rcu_read_lock();
	cds_lfht_del(f->set, &entry->in_set);
	rcu_read_unlock();
	retire(&entry->rcu);
	inflight_give_back(f, route, kind, parity, id_len);
}

void inflight_taken(struct entry *entry)
{
	/* Sequentially consistent: an offer that comes later is seen, and what
	 * was committed before an earlier one is visible to the claim. */
	atomic_store_explicit(&entry->hint, HINT_NONE, memory_order_seq_cst);
}

bool inflight_forget(struct inflight *f, struct entry *entry)
{
	unsigned route = entry->delivery.route;
	size_t id_len = entry->delivery.id_len;
	enum inflight_kind kind = kind_of(entry);
	bool parity = entry->parity;
	enum hint now = HINT_NONE;
	bool left, ours;

	rcu_read_lock();	/* from the exchange on an offer may retire it */
	/* Sequentially consistent: see hint. */
	left = atomic_compare_exchange_strong_explicit(&entry->hint, &now, HINT_LEAVING,
			memory_order_seq_cst, memory_order_seq_cst);
	ours = left && cds_lfht_del(f->set, &entry->in_set) == 0;
	rcu_read_unlock();
	if (ours)
		retire(&entry->rcu);
	if (left)
		inflight_give_back(f, route, kind, parity, id_len);
	return left;
}

struct entry *inflight_entry(struct delivery *d)
{
	return container_of(d, struct entry, delivery);
}
