#include "strandd/dump.h"

#include <stdio.h>

#include "base/activity.h"
#include "base/clock.h"
#include "base/log.h"
#include "pg/roster.h"
#include "queue/park.h"
#include "strandd/reload.h"

#define SAY(fields, ...) log_event(LOG_LEVEL_INFO, fields, __VA_ARGS__)

#define MEMBERS 5		/* a generation's other threads */
#define OTHERS 5		/* main, loader, stats, supervisor, log */

_Static_assert(ACTIVITY_THREADS >= RELOAD_MAX * (CONF_MAX_WORKERS + MEMBERS) + OTHERS, "each thread is told of");

static const struct log_fields no_fields = { .fold = LOG_FOLD_NEVER };

static double seconds_since(int64_t then)
{
	return (double)(clock_now() - then) / (double)NSEC_PER_SEC;
}

static void dump_thread(const struct activity *a)
{
	struct log_fields fields = { .route = a->route, .fold = LOG_FOLD_NEVER };
	char how_many[64] = "";

	if (a->number)
		snprintf(how_many, sizeof(how_many), " strand %u of %u,", a->number, a->total);
	else if (a->total)
		snprintf(how_many, sizeof(how_many), " %u strands,", a->total);
	SAY(&fields, "thread %s (%d): %s,%s for %.3f s", a->thread, (int)a->tid, a->what, how_many,
	    seconds_since(a->since));
}

static void dump_threads(void)
{
	static struct activity threads[ACTIVITY_THREADS];	/* too large for a stack */
	size_t n = activity_list(threads, ACTIVITY_THREADS);

	for (size_t i = 0; i < n; i++)
		dump_thread(&threads[i]);
}

static void dump_connections(void)
{
	static struct roster_view connections[ROSTER_CONNECTIONS];
	size_t n = roster_list(connections, ROSTER_CONNECTIONS);

	for (size_t i = 0; i < n; i++) {
		const struct roster_view *v = &connections[i];
		SAY(&no_fields, "connection of %s: server process %d, %s for %.3f s, open for %.0f s",
		    v->owner, v->pid, roster_state_name(v->state), seconds_since(v->since),
		    seconds_since(v->opened_at));
	}
}

static void dump_route(const struct route *r, const struct queue *queue, struct again *again)
{
	struct log_fields fields = { .route = r->conf->tag, .source = r->conf->source, .fold = LOG_FOLD_NEVER };
	struct queue_look look;

	queue_look(queue, r->index, &look);
	SAY(&fields, "lanes: %zu high, %zu normal; in flight %zu, workers %u, put off %zu%s", look.high,
	    look.normal, look.in_flight, look.workers, again_count(again, r->index),
	    look.closed ? "; suspended" : "");
}

static struct again *again_of(struct generation *g, size_t route)
{
	struct crew *crew = g->crews;

	while (crew->queue != g->queues[route])
		crew++;
	return &crew->again;
}

static void dump_generation(struct generation *g)
{
	if (g->leaving)
		SAY(&no_fields, "of an earlier configuration, instance %lld, that finishes what runs:",
		    (long long)g->routes->instance);
	for (size_t i = 0; g->queues && i < g->routes->n; i++)
		dump_route(&g->routes->routes[i], g->queues[i], again_of(g, i));
}

void dump_state(struct generation *newest)
{
	SAY(&no_fields, "state, as SIGUSR1 asked for it:");
	dump_threads();
	dump_connections();
	for (struct generation *g = newest; g; g = g->older)
		dump_generation(g);
	SAY(&no_fields, "end of the state");
}
