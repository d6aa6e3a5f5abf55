#include "queue/gate.h"

void gate_init(struct gate *g, unsigned cap)
{
	g->cap = cap;
	atomic_init(&g->inside, 0);
	atomic_init(&g->closed, false);
}

bool gate_closed(const struct gate *g)
{
	/* Sequentially consistent: see the header. */
	return atomic_load_explicit(&g->closed, memory_order_seq_cst);
}

bool gate_passable(const struct gate *g)
{
	/* Sequentially consistent: see the header. */
	return !gate_closed(g) &&
	       (g->cap == 0 || atomic_load_explicit(&g->inside, memory_order_seq_cst) < g->cap);
}

bool gate_enter_closed(struct gate *g)
{
	/* Relaxed: the exchange decides. */
	unsigned now = atomic_load_explicit(&g->inside, memory_order_relaxed);

	do {
		if (g->cap && now >= g->cap)
			return false;
		/* Acquire: what the worker that left before did is seen. */
	} while (!atomic_compare_exchange_weak_explicit(&g->inside, &now, now + 1,
			memory_order_acquire, memory_order_relaxed));
	return true;
}

bool gate_enter(struct gate *g)
{
	return !gate_closed(g) && gate_enter_closed(g);
}

void gate_leave(struct gate *g)
{
	/* Sequentially consistent: see the header. */
	atomic_fetch_sub_explicit(&g->inside, 1, memory_order_seq_cst);
}

void gate_close(struct gate *g)
{
	/* Sequentially consistent, as gate_open, though nobody waits for it. */
	atomic_store_explicit(&g->closed, true, memory_order_seq_cst);
}

void gate_open(struct gate *g)
{
	/* Sequentially consistent: see the header. */
	atomic_store_explicit(&g->closed, false, memory_order_seq_cst);
}
