#include "queue/queue.h"

#include <stdlib.h>
#include <string.h>

#include "queue/inflight.h"
#include "queue/lane.h"
#include "queue/park.h"
#include "queue/retire.h"

/* How no wakeup is lost.
 *
 * Work is takeable when a lane holds something and its route is below its cap.
 * Whoever makes work takeable (an offer, a return, a worker that leaves its
 * route) does so first and looks for idle workers then; an idle worker says so
 * first and looks for takeable work then.  All four are sequentially
 * consistent, so at least one side sees the other.
 *
 * Whatever becomes takeable wakes a worker of its own.  A worker sleeps only if
 * nothing was takeable when it looked, so for all that became takeable since, a
 * wake went out; the one who got it takes a batch, or passes the wake on when
 * it was told to stop.  So whenever work is takeable and a worker idle,
 * somebody else is on the way.
 */

enum { LANE_HIGH, LANE_NORMAL, LANES };

struct route {
	struct lane lanes[LANES];
	unsigned cap;			/* 0: none */
	_Atomic unsigned running;	/* workers between queue_take and queue_leave */
};

struct queue {
	struct inflight inflight;
	struct park park;
	_Atomic unsigned turn[LANES];	/* where the next look begins */
	unsigned n_routes;
	struct route routes[];
};

static struct lane *lane_of(struct queue *q, const struct delivery *d)
{
	return &q->routes[d->route].lanes[d->high ? LANE_HIGH : LANE_NORMAL];
}

int queue_new(struct queue **ret_queue, const struct queue_config *config)
{
	size_t size = sizeof(struct queue) + config->n_routes * sizeof(struct route);
	struct queue *q;
	int r;

	if (config->n_routes == 0 || config->max_entries == 0 || config->max_bytes == 0 ||
	    config->n_workers == 0 || config->n_workers > PARK_MAX_WORKERS)
		return STRAND_EINVAL;
	q = aligned_alloc(_Alignof(struct queue), size);
	if (!q)
		return STRAND_ENOMEM;
	memset(q, 0, size);
	r = inflight_init(&q->inflight, config->n_routes, config->max_entries,
			  config->max_per_route, config->max_bytes);
	if (r < 0)
		goto fail;
	r = park_init(&q->park, config->n_workers);
	if (r < 0)
		goto fail;
	for (; q->n_routes < config->n_routes; q->n_routes++) {
		struct route *route = &q->routes[q->n_routes];

		lane_init(&route->lanes[LANE_HIGH]);
		lane_init(&route->lanes[LANE_NORMAL]);
		route->cap = config->max_workers ? config->max_workers[q->n_routes] : 0;
	}
	*ret_queue = q;
	return 0;
fail:
	queue_free(q);
	return r;
}

void queue_free(struct queue *q)
{
	if (!q)
		return;
	for (unsigned i = 0; i < q->n_routes; i++) {
		for (int lane = 0; lane < LANES; lane++) {
			lane_drain(&q->routes[i].lanes[lane]);
			lane_release(&q->routes[i].lanes[lane]);
		}
	}
	inflight_release(&q->inflight);
	park_release(&q->park);
	/* Nothing of this queue is left behind, for leak checkers and accounts. */
	retire_wait();
	free(q);
}

static bool route_open(const struct route *route)
{
	/* Sequentially consistent: see the top of this file. */
	return route->cap == 0 ||
	       atomic_load_explicit(&route->running, memory_order_seq_cst) < route->cap;
}

static bool route_takeable(const struct route *route)
{
	return (lane_queued(&route->lanes[LANE_HIGH]) || lane_queued(&route->lanes[LANE_NORMAL])) &&
	       route_open(route);
}

static bool any_takeable(const struct queue *q)
{
	for (unsigned i = 0; i < q->n_routes; i++)
		if (route_takeable(&q->routes[i]))
			return true;
	return false;
}

static void wake_if_work(struct queue *q)
{
	if (park_any(&q->park) && any_takeable(q))
		park_wake(&q->park);
}

/* After something was put into a lane of `route`.  Nobody is woken for a route
 * at its cap: the worker that leaves it will look. */
static void wake_for(struct queue *q, const struct route *route)
{
	if (route_takeable(route))
		park_wake(&q->park);
}

enum queue_answer queue_offer(struct queue *q, unsigned route, const char *id, size_t id_len, bool high)
{
	struct entry *entry;
	enum queue_answer answer = inflight_add(&q->inflight, route, id, id_len, high, &entry);

	if (answer != QUEUE_ADDED)
		return answer;
	lane_push(lane_of(q, &entry->delivery), &entry->first, &entry->delivery);
	/* The entry may be finished and gone by now. */
	wake_for(q, &q->routes[route]);
	return QUEUE_ADDED;
}

/* Counts the caller on the route unless it is at its cap. */
static bool enter_route(struct route *route)
{
	/* Relaxed: the exchange decides. */
	unsigned now = atomic_load_explicit(&route->running, memory_order_relaxed);

	do {
		if (route->cap && now >= route->cap)
			return false;
		/* Acquire: what the worker that left before did is seen. */
	} while (!atomic_compare_exchange_weak_explicit(&route->running, &now, now + 1,
			memory_order_acquire, memory_order_relaxed));
	return true;
}

void queue_leave(struct queue *q, unsigned route)
{
	/* Sequentially consistent: see the top of this file. */
	atomic_fetch_sub_explicit(&q->routes[route].running, 1, memory_order_seq_cst);
	wake_if_work(q);
}

static size_t take_lane(struct queue *q, unsigned route, int lane, struct delivery **out, size_t max)
{
	struct lane *l = &q->routes[route].lanes[lane];

	while (lane_queued(l)) {
		size_t n;

		if (!enter_route(&q->routes[route]))
			return 0;
		n = lane_take(l, out, max);
		if (n)
			return n;
		/* Another worker was faster.  While we held the place on the
		 * route others may have passed it over, so leave it properly. */
		queue_leave(q, route);
	}
	return 0;
}

size_t queue_take(struct queue *q, struct delivery **out, size_t max, unsigned *ret_route)
{
	if (max == 0)
		return 0;
	for (int lane = 0; lane < LANES; lane++) {
		/* Relaxed: fairness only; two workers may begin at one route. */
		unsigned first = atomic_load_explicit(&q->turn[lane], memory_order_relaxed);

		for (unsigned i = 0; i < q->n_routes; i++) {
			unsigned route = (first + i) % q->n_routes;
			size_t n = take_lane(q, route, lane, out, max);

			if (n == 0)
				continue;
			/* Relaxed: as above. */
			atomic_store_explicit(&q->turn[lane], (route + 1) % q->n_routes,
					      memory_order_relaxed);
			for (size_t k = 0; k < n; k++)
				inflight_taken(inflight_entry(out[k]));
			*ret_route = route;
			/* The wake of a later offer may have gone to us. */
			wake_if_work(q);
			return n;
		}
	}
	return 0;
}

void queue_finish(struct queue *q, struct delivery *d)
{
	inflight_remove(&q->inflight, inflight_entry(d));
}

void queue_forget(struct queue *q, struct delivery *d)
{
	if (inflight_forget(&q->inflight, inflight_entry(d)))
		return;
	d->counted = true;
	queue_return(q, d);
}

void queue_return(struct queue *q, struct delivery *d)
{
	struct route *route = &q->routes[d->route];
	struct lane *l = lane_of(q, d);

	if (lane_push_again(l, d)) {
		/* No memory for another node.  The first one was taken earlier:
		 * after a grace period it may be used again. */
		synchronize_rcu();
		lane_push(l, &inflight_entry(d)->first, d);
	}
	/* The delivery may be another worker's by now. */
	wake_for(q, route);
}

int queue_wait(struct queue *q, unsigned worker, int64_t deadline, int stop_fd)
{
	for (;;) {
		bool woken;
		int r;

		park_enter(&q->park, worker);
		if (any_takeable(q)) {
			/* Perhaps woken as well: for this work, or for other
			 * work while this one's wake brings somebody else. */
			park_leave(&q->park, worker);
			return 0;
		}
		r = park_sleep(&q->park, worker, deadline, stop_fd);
		woken = park_leave(&q->park, worker);
		if (woken && r == STRAND_ESTOPPED)
			wake_if_work(q);	/* another one shall have the work */
		if (woken && r == STRAND_ETIMEOUT)
			return 0;		/* woken at the last moment */
		if (woken || r < 0)
			return r;
		/* A signal that arrived after its wake was answered: sleep on. */
	}
}

void queue_nudge(struct queue *q)
{
	park_wake(&q->park);
}

size_t queue_in_flight(const struct queue *q)
{
	return inflight_count(&q->inflight);
}

size_t queue_in_flight_on(const struct queue *q, unsigned route)
{
	return inflight_count_on(&q->inflight, route);
}

bool queue_has_room(const struct queue *q, unsigned route)
{
	return inflight_has_room(&q->inflight, route);
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
	const struct route *r = &q->routes[route];

	return lane_queued(&r->lanes[LANE_HIGH]) + lane_queued(&r->lanes[LANE_NORMAL]);
}
