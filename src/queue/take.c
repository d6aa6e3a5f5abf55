/* Which deliveries a worker gets. */
#include "queue/queue.h"

#include "queue/queue_private.h"

/* By a caller that is counted in. */
static size_t take_from(struct lanes *r, int lane, struct delivery **out, size_t max)
{
	size_t n = max ? lane_take(&r->lanes[lane], out, max) : 0;

	for (size_t i = 0; i < n; i++)
		inflight_taken(inflight_entry(out[i]));
	return n;
}

static size_t take_lane(struct queue *q, unsigned route, int lane, struct delivery **out, size_t max)
{
	struct lanes *r = &q->routes[route];

	if (r->batch && r->batch < max)
		max = r->batch;
	while (lane_queued(&r->lanes[lane])) {
		size_t n;

		if (!gate_enter(&r->gate))
			return 0;
		n = take_from(r, lane, out, max);
		if (n)
			return n;
		/* Another worker was faster.  While we held the place on the
		 * route others may have passed it over, so leave it properly. */
		queue_leave(q, route);
	}
	return 0;
}

static size_t take_in_turn(struct queue *q, int lane, struct delivery **out, size_t max,
			   unsigned *ret_route)
{
	/* Relaxed: fairness only; two workers may begin at one route. */
	unsigned first = atomic_load_explicit(&q->turn[lane], memory_order_relaxed);

	for (unsigned i = 0; i < q->n_routes; i++) {
		unsigned route = (first + i) % q->n_routes;
		size_t n = take_lane(q, route, lane, out, max);

		if (n == 0)
			continue;
		/* Relaxed: as above. */
		atomic_store_explicit(&q->turn[lane], (route + 1) % q->n_routes, memory_order_relaxed);
		*ret_route = route;
		return n;
	}
	return 0;
}

/* Also where the cap is reached: its turn has to come as well. */
static bool normal_waits(const struct queue *q)
{
	for (unsigned i = 0; i < q->n_routes; i++)
		if (lane_queued(&q->routes[i].lanes[LANE_NORMAL]) && !gate_closed(&q->routes[i].gate))
			return true;
	return false;
}

/* A worker that may take both kinds. */
static size_t take_either(struct queue *q, struct delivery **out, size_t max, unsigned *ret_route)
{
	bool due = ageing_claim(&q->ageing);
	size_t n = due ? take_in_turn(q, LANE_NORMAL, out, max, ret_route) : 0;

	if (n)
		return n;
	if (due)
		ageing_restore(&q->ageing);
	n = take_in_turn(q, LANE_HIGH, out, max, ret_route);
	if (n) {
		ageing_took_high(&q->ageing, normal_waits(q));
		return n;
	}
	n = take_in_turn(q, LANE_NORMAL, out, max, ret_route);
	if (n)
		ageing_took_normal(&q->ageing);
	return n;
}

size_t queue_take(struct queue *q, unsigned worker, struct delivery **out, size_t max,
		  unsigned *ret_route)
{
	size_t n = 0;

	if (max)
		n = queue_may_take(q, worker, LANE_NORMAL) ? take_either(q, out, max, ret_route)
			: take_in_turn(q, LANE_HIGH, out, max, ret_route);
	if (n)
		queue_wake_if_work(q);	/* a wake for something else may have gone to us */
	return n;
}

size_t queue_take_closed(struct queue *q, unsigned route, struct delivery **out, size_t max)
{
	struct lanes *r = &q->routes[route];
	int first;
	size_t n;

	if (r->batch && r->batch < max)
		max = r->batch;
	if (!gate_enter_closed(&r->gate))
		return 0;
	/* What is wrong with the urgent ones need not be wrong with the others.
	 * Relaxed: whose turn it is, no more. */
	first = atomic_fetch_xor_explicit(&r->closed_turn, 1, memory_order_relaxed) ? LANE_NORMAL : LANE_HIGH;
	n = take_from(r, first, out, (max + 1) / 2);
	n += take_from(r, first == LANE_HIGH ? LANE_NORMAL : LANE_HIGH, out + n, max - n);
	n += take_from(r, first, out + n, max - n);
	if (n)
		queue_wake_if_work(q);	/* as above */
	else
		queue_leave(q, route);
	return n;
}
