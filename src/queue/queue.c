#include "queue/queue.h"

#include <stdlib.h>
#include <string.h>

#include "queue/queue_private.h"
#include "queue/retire.h"

/* How no wakeup is lost.
 *
 * There are two kinds of work, high and normal, and two classes of workers: the
 * reserved may take high work, the others both.  Work is takeable when its lane
 * holds something and its route's gate is passable: open, and below the cap.
 *
 * Whoever may have made work takeable (an offer, a return, a worker that leaves its
 * route, who opens a route) does so first and looks then for an idle worker that may
 * take work of this kind.  A worker that wants to sleep says first that it is idle
 * and looks then for takeable work of the kinds that it may take.  All four are
 * sequentially consistent, so at least one side sees the other.
 *
 * So, for each kind by itself: when work of the kind becomes takeable, either no
 * worker that may take it is idle, and each of them looks again before it sleeps;
 * or one of them gets a wake.  Who gets a wake
 *   - takes a batch, of whatever kind and route, and looks then whether anything is
 *     left for those who are idle; or
 *   - finds nothing takeable, and looks again before it sleeps; or
 *   - was told to stop, and looks in the place of the one it should have been.
 * Looking for those who are idle asks for each kind: is work of it takeable, and is a
 * worker idle that may take it?  If so it gets a wake.  So a wake is never answered
 * by less than it was sent for: whenever work of a kind is takeable and a worker that
 * may take it is idle, somebody is on the way who will see both.
 *
 * A reserved worker is never sent for normal work: it could only go to sleep again,
 * and the wake would be lost.  tests/model/wake.pml has all of this for spin.
 */

static struct lane *lane_of(struct queue *q, const struct delivery *d)
{
	return &q->routes[d->route].lanes[d->high ? LANE_HIGH : LANE_NORMAL];
}

static void init_route(struct lanes *route, const struct queue_config *config, unsigned number)
{
	lane_init(&route->lanes[LANE_HIGH]);
	lane_init(&route->lanes[LANE_NORMAL]);
	gate_init(&route->gate, config->max_workers ? config->max_workers[number] : 0);
	route->batch = config->batch ? config->batch[number] : 0;
}

int queue_new(struct queue **ret_queue, const struct queue_config *config)
{
	size_t size = sizeof(struct queue) + config->n_routes * sizeof(struct lanes);
	struct queue *q;
	int r;

	if (config->n_routes == 0 || config->max_entries == 0 || config->max_bytes == 0 ||
	    config->n_workers == 0 || config->n_workers > PARK_MAX_WORKERS ||
	    config->reserved_for_high >= config->n_workers)
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
	q->may_take[LANE_HIGH] = PARK_ALL;
	q->may_take[LANE_NORMAL] = PARK_ALL << config->reserved_for_high;
	ageing_init(&q->ageing, config->normal_share_every, config->n_workers);
	for (; q->n_routes < config->n_routes; q->n_routes++)
		init_route(&q->routes[q->n_routes], config, q->n_routes);
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

static bool takeable(const struct lanes *route, int lane)
{
	return lane_queued(&route->lanes[lane]) && gate_passable(&route->gate);
}

static bool any_takeable(const struct queue *q, int lane)
{
	for (unsigned i = 0; i < q->n_routes; i++)
		if (takeable(&q->routes[i], lane))
			return true;
	return false;
}

void queue_wake_if_work(struct queue *q)
{
	for (int lane = 0; lane < LANES; lane++)
		if (park_any(&q->park, q->may_take[lane]) && any_takeable(q, lane))
			park_wake(&q->park, q->may_take[lane]);
}

/* After something was put into a lane of `route`, or it was opened.  Nobody is
 * woken for a route that is closed, or at its cap: who opens or leaves it will look. */
static void wake_for(struct queue *q, const struct lanes *route, int lane)
{
	if (takeable(route, lane))
		park_wake(&q->park, q->may_take[lane]);
}

enum queue_answer queue_offer(struct queue *q, unsigned route, const char *id, size_t id_len,
			      unsigned flags)
{
	struct entry *entry;
	enum queue_answer answer = inflight_add(&q->inflight, route, id, id_len, flags, &entry);

	if (answer != QUEUE_ADDED)
		return answer;
	lane_push(lane_of(q, &entry->delivery), &entry->first, &entry->delivery);
	/* The entry may be finished and gone by now. */
	wake_for(q, &q->routes[route], flags & QUEUE_HIGH ? LANE_HIGH : LANE_NORMAL);
	return QUEUE_ADDED;
}

void queue_leave(struct queue *q, unsigned route)
{
	gate_leave(&q->routes[route].gate);
	queue_wake_if_work(q);
}

void queue_close(struct queue *q, unsigned route)
{
	gate_close(&q->routes[route].gate);
}

void queue_open(struct queue *q, unsigned route)
{
	gate_open(&q->routes[route].gate);
	for (int lane = 0; lane < LANES; lane++)
		wake_for(q, &q->routes[route], lane);
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
	struct lanes *route = &q->routes[d->route];
	struct lane *l = lane_of(q, d);
	int lane = d->high ? LANE_HIGH : LANE_NORMAL;

	if (lane_push_again(l, d)) {
		/* No memory for another node.  The first one was taken earlier:
		 * after a grace period it may be used again. */
		synchronize_rcu();
		lane_push(l, &inflight_entry(d)->first, d);
	}
	/* The delivery may be another worker's by now. */
	wake_for(q, route, lane);
}

static bool any_takeable_by(const struct queue *q, unsigned worker)
{
	for (int lane = 0; lane < LANES; lane++)
		if (queue_may_take(q, worker, lane) && any_takeable(q, lane))
			return true;
	return false;
}

int queue_wait(struct queue *q, unsigned worker, int64_t deadline, int stop_fd)
{
	for (;;) {
		bool woken;
		int r;

		park_enter(&q->park, worker);
		if (any_takeable_by(q, worker)) {
			/* Perhaps woken as well: for this work, or for other
			 * work while this one's wake brings somebody else. */
			park_leave(&q->park, worker);
			return 0;
		}
		r = park_sleep(&q->park, worker, deadline, stop_fd);
		woken = park_leave(&q->park, worker);
		if (woken && r == STRAND_ESTOPPED)
			queue_wake_if_work(q);	/* another one shall have the work */
		if (woken && r == STRAND_ETIMEOUT)
			return 0;		/* woken at the last moment */
		if (woken || r < 0)
			return r;
		/* A signal that arrived after its wake was answered: sleep on. */
	}
}

void queue_nudge(struct queue *q)
{
	park_wake(&q->park, PARK_ALL);
}
