#include "strandd/parts.h"

#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include "base/activity.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/outage.h"
#include "strandd/demand.h"
#include "strandd/dump.h"

int start_stop(struct service *s, struct err *e)
{
	if (stop_init(&s->stop) || event_init(&s->done))
		return err_set(e, STRAND_ESYS, "no event descriptors");
	return 0;
}

void stop_stop(struct service *s)
{
	event_release(&s->done);
	stop_release(&s->stop);
}

static int try_resolve(struct service *s, struct err *e)
{
	struct conn *c;
	int ret = conn_open(&c, &s->target, clock_after_ms(s->conf->db_connect_timeout_ms),
			    s->signal_fd, e);

	if (ret)
		return ret;
	ret = route_table_resolve(&s->routes, s->conf, c, e);
	if (!ret)
		demand_check(s->conf, c);
	conn_close(c);
	return ret;
}

int take_signal(struct service *s)
{
	struct signalfd_siginfo info;

	if (read(s->signal_fd, &info, sizeof(info)) != sizeof(info))
		return 0;
	if (info.ssi_signo == SIGUSR1) {
		dump_state(s->queue ? s->routes : NULL, s->queue, &s->again);
		return 0;
	}
	if (info.ssi_signo != SIGHUP)
		return (int)info.ssi_signo;
	log_info("SIGHUP: the configuration is read at start only");
	return 0;
}

/* An unreachable server is waited for; a signal to stop ends the wait. */
int start_routes(struct service *s, struct err *e)
{
	struct pollfd fd = { .fd = s->signal_fd, .events = POLLIN };
	struct outage outage = { 0 };
	int ret;

	activity_set("looking up the routes");
	if (!s->conf->n_routes)
		return err_set(e, STRAND_EINVAL, "%s: no routes: there is nothing to serve", s->conf->file);
	for (;;) {
		ret = try_resolve(s, e);
		if (!ret)
			outage_over(&outage, "connected");
		if (!ret || ret == STRAND_EINVAL || ret == STRAND_ENOMEM)
			return ret;
		if (ret != STRAND_ESTOPPED)
			(void)!poll(&fd, 1, (int)outage_failed(&outage, e, "waiting for it"));
		if (take_signal(s))
			return STRAND_ESTOPPED;
	}
}

void stop_routes(struct service *s)
{
	route_table_free(s->routes);
}

static double depth_gauge(void *arg, unsigned route)
{
	return (double)queue_depth(((struct service *)arg)->queue, route);
}

static double suspended_gauge(void *arg, unsigned route)
{
	return suspension_on(&((struct service *)arg)->suspensions, route);
}

static double in_flight_gauge(void *arg, unsigned route)
{
	return (double)queue_in_flight_on(((struct service *)arg)->queue, route);
}

int start_metrics(struct service *s, struct err *e)
{
	size_t n = s->routes->n;

	s->tags = calloc(n + 1, sizeof(*s->tags));
	s->sources = calloc(n + 1, sizeof(*s->sources));
	if (!s->tags || !s->sources)
		return err_set(e, STRAND_ENOMEM, "out of memory");
	for (size_t i = 0; i < n; i++) {
		s->tags[i] = s->routes->routes[i].conf->tag;
		s->sources[i] = s->routes->routes[i].conf->source;
	}
	if (metrics_new(&s->metrics, s->tags, s->sources, (unsigned)n) ||
	    metric_gauge(s->metrics, "queue_depth", "Deliveries queued.", true, depth_gauge, s) ||
	    metric_gauge(s->metrics, "in_flight", "Deliveries queued or running.", true,
			 in_flight_gauge, s) ||
	    metric_gauge(s->metrics, "route_suspended", "1 while the route is suspended.", true,
			 suspended_gauge, s))
		return err_set(e, STRAND_ENOMEM, "out of memory");
	return 0;
}

void stop_metrics(struct service *s)
{
	metrics_free(s->metrics);
	free(s->tags);
	free(s->sources);
}

static int make_queue(struct service *s, unsigned *caps, unsigned *batch)
{
	const struct conf *conf = s->conf;
	struct queue_config config = {
		.n_routes = (unsigned)s->routes->n, .max_workers = caps, .batch = batch,
		.max_entries = (size_t)conf->queue_limit, .max_bytes = (size_t)conf->queue_bytes,
		.max_per_route = ((size_t)conf->queue_limit + s->routes->n - 1) / s->routes->n,
		.n_workers = (unsigned)conf->workers_threads,
		.reserved_for_high = (unsigned)conf->workers_reserved_for_high,
		.normal_share_every = (unsigned)conf->workers_normal_share_every,
	};

	for (size_t i = 0; i < s->routes->n; i++) {
		const struct conf_route *c = s->routes->routes[i].conf;
		caps[i] = c->serial ? 1 : (unsigned)c->max_workers;
		batch[i] = (unsigned)(c->batch ? c->batch : conf->workers_batch);
	}
	return queue_new(&s->queue, &config);
}

/* What was suspended when the routes were looked up stays so, until it is probed. */
static int make_suspensions(struct service *s)
{
	if (suspensions_init(&s->suspensions, s->queue, s->routes->n))
		return STRAND_ENOMEM;
	for (unsigned i = 0; i < s->routes->n; i++)
		if (s->routes->routes[i].suspended)
			(void)suspension_begin(&s->suspensions, i, true);
	return 0;
}

int start_queue(struct service *s, struct err *e)
{
	const struct conf *conf = s->conf;
	unsigned *caps = calloc(s->routes->n + 1, sizeof(*caps));
	unsigned *batch = calloc(s->routes->n + 1, sizeof(*batch));
	int ret = caps && batch ? make_queue(s, caps, batch) : STRAND_ENOMEM;

	free(caps);
	free(batch);
	if (conf->workers_reserved_for_high >= conf->workers_threads)
		return err_set(e, STRAND_EINVAL, "%s: workers.reserved_for_high leaves none of %d workers for"
			       " normal strands", conf->file, conf->workers_threads);
	if (!ret)
		ret = make_suspensions(s);
	if (ret)
		return err_set(e, ret, "cannot make the queue: %s", err_name(ret));
	s->context = (struct context){ .conf = s->conf, .target = &s->target, .routes = s->routes,
				       .queue = s->queue, .metrics = s->metrics, .stop = &s->stop,
				       .suspensions = &s->suspensions, .scanner = &s->scanner,
				       .marker = &s->marker };
	return 0;
}

void stop_queue(struct service *s)
{
	suspensions_release(&s->suspensions);
	queue_free(s->queue);
}

int start_stats(struct service *s, struct err *e)
{
	return s->conf->stats_socket ? stats_server_start(&s->stats, s->conf->stats_socket, s->metrics, e) : 0;
}

void stop_stats(struct service *s)
{
	stats_server_stop(s->stats);
}
