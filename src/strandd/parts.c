/* The parts of a generation that are no threads: the crews' queues, what is
 * suspended, and the handlers' processes. */
#include "strandd/parts.h"

#include <stdlib.h>

#include "work/process_rules.h"

/* What every queue has, and the pool's: its routes share the room. */
static struct queue_config common(const struct generation *g, const unsigned *caps, const unsigned *batch)
{
	const struct conf *conf = g->conf;

	return (struct queue_config){
		.n_routes = (unsigned)g->routes->n, .max_workers = caps, .batch = batch,
		.max_entries = (size_t)conf->queue_limit, .max_bytes = (size_t)conf->queue_bytes,
		.max_per_route = ((size_t)conf->queue_limit + g->routes->n - 1) / g->routes->n,
		.n_workers = (unsigned)conf->workers_threads,
		.reserved_for_high = (unsigned)conf->workers_reserved_for_high,
		.normal_share_every = (unsigned)conf->workers_normal_share_every,
	};
}

static int make_crew(struct crew *crew, const struct queue_config *config)
{
	again_init(&crew->again);
	crew->n_workers = config->n_workers;
	return queue_new(&crew->queue, config);
}

/* One route's alone, with that route's share of the room. */
static int make_process_crew(struct crew *crew, const struct route *r, struct queue_config config)
{
	config.max_entries = config.max_per_route;
	config.max_per_route = 0;
	config.max_bytes = (config.max_bytes + config.n_routes - 1) / config.n_routes;
	config.n_workers = (unsigned)r->conf->processes;
	config.reserved_for_high = 0;
	crew->route = r->index;
	return make_crew(crew, &config);
}

/* What is leased and not yet sent would be lost with what is. */
static unsigned batch_of(const struct conf_route *c, const struct conf *conf)
{
	unsigned batch = (unsigned)(c->batch ? c->batch : conf->workers_batch), out = process_policy(c).in_flight;

	return !c->batch && c->delivery == DELIVERY_AT_MOST_ONCE && out < batch ? out : batch;
}

static int make_crews(struct generation *g, unsigned *caps, unsigned *batch)
{
	struct queue_config config = common(g, caps, batch);
	int ret;

	for (size_t i = 0; i < g->routes->n; i++) {
		const struct conf_route *c = g->routes->routes[i].conf;
		caps[i] = c->serial ? 1 : (unsigned)c->max_workers;
		batch[i] = batch_of(c, g->conf);
	}
	ret = make_crew(&g->crews[g->n_crews++], &config);
	for (size_t i = 0; !ret && i < g->routes->n; i++) {
		const struct route *r = &g->routes->routes[i];
		struct crew *crew = route_is_process(r) ? &g->crews[g->n_crews++] : &g->crews[0];
		if (route_is_process(r))
			ret = make_process_crew(crew, r, config);
		g->queues[i] = crew->queue;
	}
	return ret;
}

/* What was suspended when the routes were looked up stays so, until it is probed. */
static int make_suspensions(struct generation *g)
{
	if (suspensions_init(&g->suspensions, g->queues, g->routes->n))
		return STRAND_ENOMEM;
	for (unsigned i = 0; i < g->routes->n; i++)
		if (g->routes->routes[i].suspended)
			(void)suspension_begin(&g->suspensions, i, true);
	return 0;
}

int start_crews(struct generation *g, struct err *e)
{
	size_t n = g->routes->n + 1;
	unsigned *caps = calloc(n, sizeof(*caps));
	unsigned *batch = calloc(n, sizeof(*batch));
	int ret = STRAND_ENOMEM;

	g->crews = calloc(n, sizeof(*g->crews));
	g->queues = calloc(n, sizeof(*g->queues));
	if (caps && batch && g->crews && g->queues)
		ret = make_crews(g, caps, batch);
	free(caps);
	free(batch);
	if (!ret)
		ret = make_suspensions(g);
	if (ret)
		return err_set(e, ret, "cannot make the queue: %s", err_name(ret));
	g->context.queues = g->queues;
	return 0;
}

void stop_crews(struct generation *g)
{
	suspensions_release(&g->suspensions);
	for (size_t i = 0; g->crews && i < g->n_crews; i++) {
		again_release(&g->crews[i].again);
		queue_free(g->crews[i].queue);
	}
	free(g->crews);
	free(g->queues);
}

static int add_children(struct generation *g, struct crew *crew, struct err *e)
{
	const struct child_policy policy = process_policy(g->routes->routes[crew->route].conf);
	int ret = 0;

	crew->children = calloc(crew->n_workers, sizeof(*crew->children));
	if (!crew->children)
		return err_set(e, STRAND_ENOMEM, "out of memory");
	for (size_t i = 0; !ret && i < crew->n_workers; i++)
		ret = supervisor_add(g->supervisor, &policy, (unsigned)i, &crew->children[i], e);
	return ret;
}

int start_children(struct generation *g, struct err *e)
{
	int ret = 0;

	for (size_t i = 1; !ret && i < g->n_crews; i++)
		ret = add_children(g, &g->crews[i], e);
	return ret;
}

void stop_children(struct generation *g)
{
	for (size_t i = 1; i < g->n_crews; i++) {
		struct crew *crew = &g->crews[i];

		for (size_t k = 0; crew->children && k < crew->n_workers; k++)
			supervisor_remove(g->supervisor, crew->children[k]);
		free(crew->children);
	}
}
