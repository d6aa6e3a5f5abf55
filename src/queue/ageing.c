#include "queue/ageing.h"

void ageing_init(struct ageing *a, unsigned every)
{
	a->every = every;
	atomic_init(&a->high, 0);
}

bool ageing_claim(struct ageing *a)
{
	unsigned high = atomic_load_explicit(&a->high, memory_order_relaxed);

	if (a->every == 0)
		return false;
	while (high >= a->every)
		if (atomic_compare_exchange_weak_explicit(&a->high, &high, 0, memory_order_relaxed,
							  memory_order_relaxed))
			return true;
	return false;
}

void ageing_restore(struct ageing *a)
{
	atomic_store_explicit(&a->high, a->every, memory_order_relaxed);
}

void ageing_took_high(struct ageing *a, bool normal_waits)
{
	unsigned high = atomic_load_explicit(&a->high, memory_order_relaxed);

	if (a->every == 0)
		return;
	/* Not beyond `every`: it may be due for long before it can be had. */
	while (!atomic_compare_exchange_weak_explicit(&a->high, &high,
			!normal_waits ? 0 : high < a->every ? high + 1 : high,
			memory_order_relaxed, memory_order_relaxed))
		;
}

void ageing_took_normal(struct ageing *a)
{
	atomic_store_explicit(&a->high, 0, memory_order_relaxed);
}
