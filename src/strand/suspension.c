#include "strand/suspension.h"

#include <stdlib.h>

#include "base/backoff.h"
#include "base/clock.h"
#include "queue/queue.h"

#define PROBE_FIRST_MS 1000
#define PROBE_CAP_MS 30000
#define PROBES_MAX 30

/* Every atomic here stands for itself, and is relaxed unless said otherwise: a route
 * is closed and opened by the queue, in its own order; whoever sees an old value
 * takes a batch more, or probes a little later. */
#define LOAD(field) atomic_load_explicit(&(field), memory_order_relaxed)
#define STORE(field, value) atomic_store_explicit(&(field), (value), memory_order_relaxed)

int suspensions_init(struct suspensions *s, struct queue *const *queues, size_t n_routes)
{
	*s = (struct suspensions){ .queues = queues, .n = n_routes,
				   .routes = calloc(n_routes ? n_routes : 1, sizeof(*s->routes)) };
	return s->routes ? 0 : STRAND_ENOMEM;
}

void suspensions_release(struct suspensions *s)
{
	free(s->routes);
	*s = (struct suspensions){ 0 };
}

static void schedule(struct suspension *r)
{
	STORE(r->probe_at, clock_after_ms(backoff_ms(LOAD(r->probes) + 1, PROBE_FIRST_MS, PROBE_CAP_MS)));
}

/* Closes or opens the route in the queue, and again if another thread has changed its
 * mind meanwhile: whoever comes last to the gate finds what `on` says by then, so the
 * two never stay apart. */
static void settle_gate(struct suspensions *s, unsigned route, bool on)
{
	for (;;) {
		bool now;

		if (on)
			queue_close(s->queues[route], route);
		else
			queue_open(s->queues[route], route);
		/* seq_cst: after the gate, in one order with the exchanges of `on` */
		now = atomic_load_explicit(&s->routes[route].on, memory_order_seq_cst);
		if (now == on)
			return;
		on = now;
	}
}

bool suspension_begin(struct suspensions *s, unsigned route, bool recorded)
{
	struct suspension *r = &s->routes[route];
	bool was;

	if (recorded)
		STORE(r->recorded, true);
	if (LOAD(r->on))
		return false;
	schedule(r);
	/* seq_cst: one of several that begin closes it; see settle_gate */
	was = atomic_exchange_explicit(&r->on, true, memory_order_seq_cst);
	if (!was)
		settle_gate(s, route, true);
	return !was;
}

bool suspension_end(struct suspensions *s, unsigned route)
{
	struct suspension *r = &s->routes[route];
	/* seq_cst: as in suspension_begin */
	bool was = atomic_exchange_explicit(&r->on, false, memory_order_seq_cst);

	STORE(r->recorded, false);
	STORE(r->probes, 0);
	STORE(r->failures, 0);
	STORE(r->probing, false);
	if (was)
		settle_gate(s, route, false);
	return was;
}

bool suspension_on(const struct suspensions *s, unsigned route)
{
	return LOAD(s->routes[route].on);
}

bool suspension_recorded(const struct suspensions *s, unsigned route)
{
	return LOAD(s->routes[route].recorded);
}

int suspension_due(struct suspensions *s, const struct queue *q, int64_t now)
{
	for (size_t i = 0; i < s->n; i++) {
		struct suspension *r = &s->routes[i];
		/* acq_rel: one prober at a time, which sees what the last one stored */
		if (s->queues[i] == q && LOAD(r->on) && LOAD(r->probe_at) <= now && !LOAD(r->probing) &&
		    !atomic_exchange_explicit(&r->probing, true, memory_order_acq_rel))
			return (int)i;
	}
	return -1;
}

void suspension_probed(struct suspensions *s, unsigned route, bool tried)
{
	struct suspension *r = &s->routes[route];

	if (!LOAD(r->probing))
		return;
	if (tried && LOAD(r->probes) < PROBES_MAX)
		atomic_fetch_add_explicit(&r->probes, 1, memory_order_relaxed);
	schedule(r);
	/* release: the next prober sees the above */
	atomic_store_explicit(&r->probing, false, memory_order_release);
}

int64_t suspension_next(const struct suspensions *s, const struct queue *q)
{
	int64_t next = INT64_MAX;

	for (size_t i = 0; i < s->n; i++) {
		const struct suspension *r = &s->routes[i];
		if (s->queues[i] == q && LOAD(r->on) && !LOAD(r->probing) && LOAD(r->probe_at) < next)
			next = LOAD(r->probe_at);
	}
	return next;
}

unsigned suspension_failures(const struct suspensions *s, unsigned route)
{
	return LOAD(s->routes[route].failures);
}

void suspension_add_row(struct suspensions *s, unsigned route, bool ended, unsigned failures)
{
	struct suspension *r = &s->routes[route];

	if (!ended)
		atomic_fetch_add_explicit(&r->failures, failures, memory_order_relaxed);
	else if (LOAD(r->failures) != failures)
		STORE(r->failures, failures);
}

void suspension_success(struct suspensions *s, unsigned route)
{
	atomic_fetch_add_explicit(&s->routes[route].successes, 1, memory_order_relaxed);
}

unsigned suspension_successes(const struct suspensions *s, unsigned route)
{
	return LOAD(s->routes[route].successes);
}
