#include "queue/ageing.h"

void ageing_init(struct ageing *a, unsigned every, unsigned n_workers)
{
	a->every = every;
	a->most = every + n_workers - 1;
	atomic_init(&a->high, 0);
}

bool ageing_claim(struct ageing *a)
{
	unsigned high = atomic_load_explicit(&a->high, memory_order_relaxed);

	if (a->every == 0)
		return false;
	while (high >= a->every)
		if (atomic_compare_exchange_weak_explicit(&a->high, &high, high - a->every,
				memory_order_relaxed, memory_order_relaxed))
			return true;
	return false;
}

/* Up to `most`: a batch that is due may be so for long before it can be had, and
 * is still one batch. */
static void add(struct ageing *a, unsigned n)
{
	unsigned high = atomic_load_explicit(&a->high, memory_order_relaxed);

	while (!atomic_compare_exchange_weak_explicit(&a->high, &high,
			high + n < a->most ? high + n : a->most,
			memory_order_relaxed, memory_order_relaxed))
		;
}

void ageing_restore(struct ageing *a)
{
	add(a, a->every);
}

void ageing_took_high(struct ageing *a, bool normal_waits)
{
	if (a->every == 0)
		return;
	if (normal_waits)
		add(a, 1);
	else
		atomic_store_explicit(&a->high, 0, memory_order_relaxed);
}

void ageing_took_normal(struct ageing *a)
{
	atomic_store_explicit(&a->high, 0, memory_order_relaxed);
}
