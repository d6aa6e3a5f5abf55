#include "strandd/generation.h"

#include <stdlib.h>

#include "base/clock.h"
#include "strandd/loader.h"
#include "strandd/parts.h"

/* Started in this order, stopped in reverse.  The listener last: what it hears of
 * has somewhere to go. */
static const struct part {
	int (*start)(struct generation *g, struct err *e);
	void (*stop)(struct generation *g);
} parts[] = {
	{ start_crews, stop_crews },
	{ start_scanner, stop_scanner },
	{ start_marker, stop_marker },
	{ start_cleaner, stop_cleaner },
	{ start_keeper, stop_keeper },
	{ start_children, stop_children },
	{ start_workers, stop_workers },
	{ start_listener, stop_listener },
};

#define N_PARTS (sizeof(parts) / sizeof(parts[0]))

static int take_slots(struct generation *g, struct metrics *metrics, struct err *e)
{
	for (size_t i = 0; i < g->routes->n; i++) {
		struct route *r = &g->routes->routes[i];
		int ret = metric_slot(metrics, r->conf->tag, r->conf->source, &r->metric);

		if (ret == STRAND_EFULL)
			return err_set(e, ret, "more than %u different routes since the start: restart to serve"
				       " them", METRIC_SLOTS_MAX);
		if (ret)
			return err_set(e, ret, "out of memory");
	}
	return 0;
}

int generation_new(struct generation **ret_generation, const struct conf *conf, struct conf *owned,
		   struct route_table *routes, const struct generation_frame *frame, struct err *e)
{
	struct generation *g = calloc(1, sizeof(*g));
	int ret;

	if (!g || stop_init(&g->stop)) {
		ret = err_set(e, g ? STRAND_ESYS : STRAND_ENOMEM, g ? "no event descriptors" : "out of memory");
		route_table_free(routes);
		conf_free(owned);
		free(g);
		return ret;
	}
	g->conf = conf;
	g->owned = owned;
	g->supervisor = frame->supervisor;
	g->routes = routes;
	g->target = target_of(conf);
	g->cleaner_past = frame->cleaner_past;
	progress_init(&g->progress, frame->news);
	g->context = (struct context){ .conf = conf, .target = &g->target, .routes = routes,
				       .metrics = frame->metrics, .stop = &g->stop, .progress = &g->progress,
				       .suspensions = &g->suspensions, .scanner = &g->scanner,
				       .marker = &g->marker, .keeper = &g->keeper };
	ret = take_slots(g, frame->metrics, e);
	if (ret) {
		generation_free(g);
		return ret;
	}
	*ret_generation = g;
	return 0;
}

int generation_start(struct generation *g, struct err *e)
{
	int ret = 0;

	g->started_at = clock_now();
	while (!ret && g->started < N_PARTS)
		ret = parts[g->started++].start(g, e);
	return ret;
}

void generation_stop(struct generation *g, enum stop_level level)
{
	g->leaving = true;
	stop_raise(&g->stop, level);
}

bool generation_is_ready(const struct generation *g)
{
	return progress_is_scanning(&g->progress);
}

bool generation_has_ended(const struct generation *g)
{
	/* Acquire: pairs with member_run; what its threads did is seen. */
	return atomic_load_explicit(&g->threads_running, memory_order_acquire) == 0;
}

unsigned generation_batches(const struct generation *g)
{
	unsigned n = 0;

	for (unsigned i = 0; g->queues && i < g->routes->n; i++) {
		struct queue_look look;

		queue_look(g->queues[i], i, &look);
		n += look.workers;
	}
	return n;
}

void generation_free(struct generation *g)
{
	if (!g)
		return;
	while (g->started)
		parts[--g->started].stop(g);
	progress_release(&g->progress);
	stop_release(&g->stop);
	route_table_free(g->routes);
	conf_free(g->owned);
	free(g);
}
