#include "queue/inflight_bounds.h"

static size_t count_kind(const struct inflight *f, unsigned route, enum inflight_kind kind)
{
	const struct inflight_route *r = &f->routes[route];

	/* Acquire, both: what was done before the last one was finished is seen. */
	return atomic_load_explicit(&r->entries[kind][0], memory_order_acquire) +
	       atomic_load_explicit(&r->entries[kind][1], memory_order_acquire);
}

/* On success counted under *ret_parity. */
static bool reserve_entry(struct inflight *f, unsigned route, enum inflight_kind kind, bool *ret_parity)
{
	struct inflight_route *r = &f->routes[route];
	/* Relaxed: the exchange decides. */
	size_t now = atomic_load_explicit(&f->entries[kind], memory_order_relaxed);

	/* Checked apart from the addition: a route's own bound keeps it from taking
	 * all room, and a few more do no harm. */
	if (count_kind(f, route, kind) >= f->max_per_route)
		return false;
	do {
		if (now >= f->max_entries)
			return false;
		/* Relaxed: a number, it publishes nothing. */
	} while (!atomic_compare_exchange_weak_explicit(&f->entries[kind], &now, now + 1,
			memory_order_relaxed, memory_order_relaxed));
	/* Relaxed: an offer beside the beginning of an epoch belongs to either one. */
	*ret_parity = atomic_load_explicit(&r->parity, memory_order_relaxed);
	/* Release, with the set's own barriers: counted before it is found. */
	atomic_fetch_add_explicit(&r->entries[kind][*ret_parity], 1, memory_order_release);
	return true;
}

static bool add_bytes(_Atomic size_t *bytes, size_t n, size_t max)
{
	/* Relaxed, both: a number, it publishes nothing. */
	size_t now = atomic_load_explicit(bytes, memory_order_relaxed);

	do {
		if (now && (n > max || now > max - n))
			return false;
	} while (!atomic_compare_exchange_weak_explicit(bytes, &now, now + n,
			memory_order_relaxed, memory_order_relaxed));
	return true;
}

static bool reserve_bytes(struct inflight *f, unsigned route, enum inflight_kind kind, size_t n)
{
	if (!add_bytes(&f->routes[route].bytes[kind], n, f->max_route_bytes))
		return false;
	if (add_bytes(&f->bytes[kind], n, f->max_bytes))
		return true;
	/* Relaxed: as above. */
	atomic_fetch_sub_explicit(&f->routes[route].bytes[kind], n, memory_order_relaxed);
	return false;
}

void inflight_give_back(struct inflight *f, unsigned route, enum inflight_kind kind, bool parity, size_t bytes)
{
	/* Release: who reads 0 sees that the entry is out of the set. */
	atomic_fetch_sub_explicit(&f->routes[route].entries[kind][parity], 1, memory_order_release);
	/* Relaxed, all three: numbers, they publish nothing. */
	atomic_fetch_sub_explicit(&f->routes[route].bytes[kind], bytes, memory_order_relaxed);
	atomic_fetch_sub_explicit(&f->bytes[kind], bytes, memory_order_relaxed);
	atomic_fetch_sub_explicit(&f->entries[kind], 1, memory_order_relaxed);
}

bool inflight_reserve(struct inflight *f, unsigned route, enum inflight_kind kind, size_t bytes,
		      bool *ret_parity)
{
	bool parity;

	if (!reserve_entry(f, route, kind, &parity))
		return false;
	if (!reserve_bytes(f, route, kind, bytes)) {
		inflight_give_back(f, route, kind, parity, 0);
		return false;
	}
	*ret_parity = parity;
	return true;
}

size_t inflight_count(const struct inflight *f)
{
	/* Relaxed: a number for people. */
	return atomic_load_explicit(&f->entries[INFLIGHT_NORMAL], memory_order_relaxed) +
	       atomic_load_explicit(&f->entries[INFLIGHT_HIGH], memory_order_relaxed);
}

size_t inflight_count_on(const struct inflight *f, unsigned route)
{
	return count_kind(f, route, INFLIGHT_NORMAL) + count_kind(f, route, INFLIGHT_HIGH);
}

bool inflight_has_room(const struct inflight *f, unsigned route, enum inflight_kind kind)
{
	/* Relaxed: a number that decides when to look again. */
	size_t bytes = atomic_load_explicit(&f->routes[route].bytes[kind], memory_order_relaxed);

	return count_kind(f, route, kind) <= f->max_per_route / 2 && bytes <= f->max_route_bytes / 2;
}

bool inflight_epoch_over(const struct inflight *f, unsigned route)
{
	const struct inflight_route *r = &f->routes[route];
	/* Relaxed: written by the caller's own thread. */
	bool parity = atomic_load_explicit(&r->parity, memory_order_relaxed);

	/* Acquire: as above. */
	return !atomic_load_explicit(&r->entries[INFLIGHT_NORMAL][!parity], memory_order_acquire) &&
	       !atomic_load_explicit(&r->entries[INFLIGHT_HIGH][!parity], memory_order_acquire);
}

bool inflight_epoch_begin(struct inflight *f, unsigned route)
{
	struct inflight_route *r = &f->routes[route];

	if (!inflight_epoch_over(f, route))
		return false;
	/* Relaxed: the caller's own; see reserve_entry for who reads it. */
	atomic_store_explicit(&r->parity, !atomic_load_explicit(&r->parity, memory_order_relaxed),
			      memory_order_relaxed);
	return true;
}
