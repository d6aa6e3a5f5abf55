#include "queue/park.h"

#include <stdlib.h>
#include <string.h>

#include "queue/sleep.h"

int park_init(struct park *p, unsigned n_workers)
{
	memset(p, 0, sizeof(*p));
	p->events = calloc(n_workers, sizeof(*p->events));
	if (!p->events)
		return STRAND_ENOMEM;
	for (; p->n_workers < n_workers; p->n_workers++) {
		if (event_init(&p->events[p->n_workers])) {
			park_release(p);
			return STRAND_ESYS;
		}
	}
	return 0;
}

void park_release(struct park *p)
{
	for (unsigned i = 0; i < p->n_workers; i++)
		event_release(&p->events[i]);
	free(p->events);
	p->events = NULL;
	p->n_workers = 0;
}

void park_enter(struct park *p, unsigned worker)
{
	/* Sequentially consistent: before the last look for work. */
	atomic_fetch_or_explicit(&p->idle, UINT64_C(1) << worker, memory_order_seq_cst);
}

bool park_leave(struct park *p, unsigned worker)
{
	uint64_t bit = UINT64_C(1) << worker;
	/* Acquire: what the waker did is seen. */
	uint64_t before = atomic_fetch_and_explicit(&p->idle, ~bit, memory_order_acq_rel);

	return !(before & bit);
}

int park_sleep(struct park *p, unsigned worker, int64_t deadline, int stop_fd)
{
	int r = sleep_on(&p->events[worker], deadline, stop_fd);

	if (r == 0)
		event_clear(&p->events[worker]);
	return r;
}

bool park_any(const struct park *p, uint64_t among)
{
	/* Sequentially consistent: after the work was made takeable. */
	return (atomic_load_explicit(&p->idle, memory_order_seq_cst) & among) != 0;
}

unsigned park_idle(const struct park *p)
{
	/* Relaxed: a number for people. */
	return (unsigned)__builtin_popcountll(atomic_load_explicit(&p->idle, memory_order_relaxed));
}

void park_wake(struct park *p, uint64_t among)
{
	/* Sequentially consistent: as above. */
	uint64_t idle = atomic_load_explicit(&p->idle, memory_order_seq_cst);

	while (idle & among) {
		/* The lowest bit: the same few workers stay busy, and the
		 * connections of the others may grow old. */
		uint64_t bit = (idle & among) & -(idle & among);

		/* Release: the work is seen by the worker that finds its bit
		 * cleared.  Relaxed on failure: the next turn decides. */
		if (atomic_compare_exchange_weak_explicit(&p->idle, &idle, idle & ~bit,
				memory_order_release, memory_order_relaxed)) {
			event_signal(&p->events[__builtin_ctzll(bit)]);
			return;
		}
	}
}
