/* What others may ask of the queue, and the epochs. */
#include "queue/queue.h"

#include "queue/queue_private.h"

size_t queue_in_flight(const struct queue *q)
{
	return inflight_count(&q->inflight);
}

size_t queue_in_flight_on(const struct queue *q, unsigned route)
{
	return inflight_count_on(&q->inflight, route);
}

bool queue_has_room(const struct queue *q, unsigned route, unsigned flags)
{
	return inflight_has_room(&q->inflight, route, INFLIGHT_HIGH) &&
	       (flags & QUEUE_HIGH || inflight_has_room(&q->inflight, route, INFLIGHT_NORMAL));
}

bool queue_epoch_begin(struct queue *q, unsigned route)
{
	return inflight_epoch_begin(&q->inflight, route);
}

bool queue_epoch_over(const struct queue *q, unsigned route)
{
	return inflight_epoch_over(&q->inflight, route);
}

size_t queue_depth(const struct queue *q, unsigned route)
{
	const struct lanes *r = &q->routes[route];

	return lane_queued(&r->lanes[LANE_HIGH]) + lane_queued(&r->lanes[LANE_NORMAL]);
}

bool queue_high_waits(const struct queue *q)
{
	for (unsigned i = 0; i < q->n_routes; i++)
		if (lane_queued(&q->routes[i].lanes[LANE_HIGH]) && !gate_closed(&q->routes[i].gate))
			return true;
	return false;
}

unsigned queue_idle(const struct queue *q)
{
	return park_idle(&q->park);
}

void queue_look(const struct queue *q, unsigned route, struct queue_look *ret)
{
	const struct lanes *r = &q->routes[route];

	*ret = (struct queue_look){
		.high = lane_queued(&r->lanes[LANE_HIGH]), .normal = lane_queued(&r->lanes[LANE_NORMAL]),
		.in_flight = queue_in_flight_on(q, route),
		/* relaxed: to look at */
		.workers = atomic_load_explicit(&r->gate.inside, memory_order_relaxed),
		.closed = gate_closed(&r->gate),
	};
}
