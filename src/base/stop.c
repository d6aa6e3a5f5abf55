#include "base/stop.h"

int stop_init(struct stop *s)
{
	int r;

	atomic_init(&s->level, STOP_NONE);
	s->now.fd = -1;
	r = event_init(&s->drain);
	if (r < 0)
		return r;
	r = event_init(&s->now);
	if (r < 0)
		event_release(&s->drain);
	return r;
}

void stop_release(struct stop *s)
{
	event_release(&s->drain);
	event_release(&s->now);
}

void stop_raise(struct stop *s, enum stop_level level)
{
	/* Relaxed: the events' system calls order what follows. */
	int old = atomic_load_explicit(&s->level, memory_order_relaxed);

	/* Release: who reads the level sees what was written before it rose. */
	while (old < (int)level &&
	       !atomic_compare_exchange_weak_explicit(&s->level, &old, (int)level,
						      memory_order_release,
						      memory_order_relaxed))
		;
	if (level >= STOP_DRAIN)
		event_signal(&s->drain);
	if (level >= STOP_NOW)
		event_signal(&s->now);
}

enum stop_level stop_level(const struct stop *s)
{
	/* Acquire: pairs with the release in stop_raise. */
	return (enum stop_level)atomic_load_explicit(&s->level, memory_order_acquire);
}
