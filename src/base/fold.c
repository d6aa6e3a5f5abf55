#include "base/fold.h"

#include <stdatomic.h>
#include <stdlib.h>
#include <sys/random.h>

#include "base/clock.h"

/* A row that is free is ready for use but for its key, so that the key alone claims
 * it, and threads that meet the same trouble at the same moment meet in one row.
 * Only fold_sweep frees rows.  A thread that was stopped for a whole window between
 * finding its row and counting there may count for another kind; that is all. */
struct row {
	_Atomic uint64_t key;		/* 0: free */
	_Atomic int64_t began;		/* of the window; 0: just claimed */
	_Atomic unsigned seen;		/* in this window */
	_Atomic unsigned folded;	/* of them not written */
	_Atomic unsigned renewed;
	_Atomic int allowance;		/* over what is admitted at first; negative: less */
	_Atomic(struct log_record *) like;	/* one of those not written */
};

enum { PROBES = 8, REST = FOLD_KINDS };

static struct row rows[FOLD_KINDS + 1];

static uint64_t seed(void)
{
	static _Atomic uint64_t value;
	/* relaxed, as all of it: a number on its own */
	uint64_t now = atomic_load_explicit(&value, memory_order_relaxed), fresh;

	if (now)
		return now;
	/* Without random numbers it is guessable, no worse. */
	if (getrandom(&fresh, sizeof(fresh), GRND_NONBLOCK) != sizeof(fresh))
		fresh = (uint64_t)clock_now();
	fresh |= 1;
	if (atomic_compare_exchange_strong_explicit(&value, &now, fresh, memory_order_relaxed,
						    memory_order_relaxed))
		return fresh;
	return now;
}

/* FNV-1a, the closing NUL too. */
static uint64_t mix(uint64_t hash, const char *text)
{
	const unsigned char *p = (const unsigned char *)(text ? text : "");

	do
		hash = (hash ^ *p) * UINT64_C(0x100000001b3);
	while (*p++);
	return hash;
}

uint64_t fold_key(const struct log_record *r, const char *fmt)
{
	uint64_t hash = UINT64_C(0xcbf29ce484222325) ^ seed();

	hash = (hash ^ (uint64_t)r->level) * UINT64_C(0x100000001b3);
	hash = mix(hash, fmt);
	hash = mix(hash, r->route);
	hash = mix(hash, r->source);
	hash = mix(hash, r->sqlstate);
	if (r->fold != LOG_FOLD_KIND)
		hash = mix(hash, r->message);
	return hash ? hash : 1;
}

/* Relaxed in all that follows but where it says otherwise: each number stands on its
 * own, and a line more or less at the edge of a window harms nobody. */
static struct row *find(uint64_t key, bool claim)
{
	struct row *empty = NULL;

	for (unsigned i = 0; i < PROBES; i++) {
		struct row *row = &rows[(key + i) % FOLD_KINDS];
		uint64_t found = atomic_load_explicit(&row->key, memory_order_acquire);
		if (found == key)
			return row;
		if (!found && !empty)
			empty = row;
	}
	if (!claim)
		return NULL;
	if (empty) {
		uint64_t found = 0;
		/* acquire: pairs with free_row */
		if (atomic_compare_exchange_strong_explicit(&empty->key, &found, key, memory_order_acq_rel,
							    memory_order_acquire) || found == key)
			return empty;
		/* Another kind was faster there; the next one may look on. */
	}
	return &rows[REST];
}

static bool within(struct row *row, unsigned limit)
{
	int allowance = atomic_load_explicit(&row->allowance, memory_order_relaxed);
	unsigned seen = atomic_fetch_add_explicit(&row->seen, 1, memory_order_relaxed);

	return (int64_t)seen < (int64_t)limit + allowance;
}

bool fold_admit(struct log_record *r, int64_t now)
{
	struct row *row = find(r->key, true);
	int64_t none = 0;
	struct log_record *no_record = NULL;

	atomic_compare_exchange_strong_explicit(&row->began, &none, now, memory_order_relaxed,
						memory_order_relaxed);
	if (within(row, r->fold == LOG_FOLD_ONCE && row != &rows[REST] ? 1 : FOLD_FIRST))
		return true;
	atomic_fetch_add_explicit(&row->folded, 1, memory_order_relaxed);
	/* release: fold_sweep reads the record */
	if (!atomic_compare_exchange_strong_explicit(&row->like, &no_record, r, memory_order_release,
						     memory_order_relaxed))
		free(r);
	return false;
}

void fold_renew(uint64_t key)
{
	struct row *row = find(key, false);

	if (!row || atomic_fetch_add_explicit(&row->renewed, 1, memory_order_relaxed) >= FOLD_RENEWALS)
		return;
	atomic_store_explicit(&row->folded, 0, memory_order_relaxed);
	atomic_store_explicit(&row->allowance,
			      (int)atomic_load_explicit(&row->seen, memory_order_relaxed),
			      memory_order_relaxed);
}

/* A new window: free when nothing had to be held back, else going on, and what is
 * told once is then told no more, but counted. */
static void next_window(struct row *row, bool go_on, bool once, int64_t now)
{
	atomic_store_explicit(&row->seen, 0, memory_order_relaxed);
	atomic_store_explicit(&row->renewed, 0, memory_order_relaxed);
	atomic_store_explicit(&row->allowance, go_on && once ? -1 : 0, memory_order_relaxed);
	atomic_store_explicit(&row->began, go_on ? now : 0, memory_order_relaxed);
	/* release: who claims the row finds it ready */
	if (!go_on && row != &rows[REST])
		atomic_store_explicit(&row->key, 0, memory_order_release);
}

static void sweep_row(struct row *row, int64_t began, int64_t now, fold_fn *tell)
{
	uint64_t key = atomic_load_explicit(&row->key, memory_order_relaxed);
	unsigned folded = atomic_exchange_explicit(&row->folded, 0, memory_order_relaxed);
	/* acquire: pairs with fold_admit */
	struct log_record *like = atomic_exchange_explicit(&row->like, NULL, memory_order_acquire);
	bool once = like && like->fold == LOG_FOLD_ONCE;

	next_window(row, folded, once, now);
	if (like && folded && (key == 0 || like->key == key) &&
	    !(once && like->level > LOG_LEVEL_WARNING))
		tell(like, folded, (now - began + NSEC_PER_SEC / 2) / NSEC_PER_SEC);
	else
		free(like);
}

bool fold_sweep(int64_t now, bool end, fold_fn *tell)
{
	bool left = false;

	for (unsigned i = 0; i <= REST; i++) {
		int64_t began = atomic_load_explicit(&rows[i].began, memory_order_relaxed);
		if (!began)
			continue;
		if (end || now - began >= FOLD_WINDOW_MS * NSEC_PER_MSEC)
			sweep_row(&rows[i], began, now, tell);
		/* relaxed: as above */
		left |= atomic_load_explicit(&rows[i].began, memory_order_relaxed) != 0;
	}
	return left;
}
