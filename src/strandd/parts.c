/* The parts of a generation that are no threads. */
#include "strandd/parts.h"

#include <stdlib.h>

static int make_queue(struct generation *g, unsigned *caps, unsigned *batch)
{
	const struct conf *conf = g->conf;
	struct queue_config config = {
		.n_routes = (unsigned)g->routes->n, .max_workers = caps, .batch = batch,
		.max_entries = (size_t)conf->queue_limit, .max_bytes = (size_t)conf->queue_bytes,
		.max_per_route = ((size_t)conf->queue_limit + g->routes->n - 1) / g->routes->n,
		.n_workers = (unsigned)conf->workers_threads,
		.reserved_for_high = (unsigned)conf->workers_reserved_for_high,
		.normal_share_every = (unsigned)conf->workers_normal_share_every,
	};

	for (size_t i = 0; i < g->routes->n; i++) {
		const struct conf_route *c = g->routes->routes[i].conf;
		caps[i] = c->serial ? 1 : (unsigned)c->max_workers;
		batch[i] = (unsigned)(c->batch ? c->batch : conf->workers_batch);
	}
	return queue_new(&g->queue, &config);
}

/* What was suspended when the routes were looked up stays so, until it is probed. */
static int make_suspensions(struct generation *g)
{
	if (suspensions_init(&g->suspensions, g->queue, g->routes->n))
		return STRAND_ENOMEM;
	for (unsigned i = 0; i < g->routes->n; i++)
		if (g->routes->routes[i].suspended)
			(void)suspension_begin(&g->suspensions, i, true);
	return 0;
}

int start_queue(struct generation *g, struct err *e)
{
	unsigned *caps = calloc(g->routes->n + 1, sizeof(*caps));
	unsigned *batch = calloc(g->routes->n + 1, sizeof(*batch));
	int ret = caps && batch ? make_queue(g, caps, batch) : STRAND_ENOMEM;

	free(caps);
	free(batch);
	if (!ret)
		ret = make_suspensions(g);
	if (ret)
		return err_set(e, ret, "cannot make the queue: %s", err_name(ret));
	g->context.queue = g->queue;
	return 0;
}

void stop_queue(struct generation *g)
{
	suspensions_release(&g->suspensions);
	queue_free(g->queue);
}
