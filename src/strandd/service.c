#include "strandd/service.h"

#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/outage.h"
#include "base/thread.h"
#include "listen/listener.h"
#include "scan/scanner.h"
#include "stats/server.h"
#include "strand/context.h"
#include "work/worker.h"

/* The server frees what an abandoned transaction of ours holds after this. */
#define IDLE_IN_TRANSACTION_MS 10000

/* Workers (at most 64), scanner, listener. */
#define MAX_THREADS 66

/* What one thread does. */
struct body {
	struct service *service;
	thread_fn *fn;
	void *arg;
};

struct service {
	const struct conf *conf;
	int signal_fd;
	struct conn_target target;
	struct stop stop;
	struct route_table *routes;
	struct metrics *metrics;
	const char **tags, **sources;	/* labels, borrowed by the metrics */
	struct queue *queue;
	struct context context;
	struct scanner scanner;
	struct listener listener;
	struct again again;
	struct worker *workers;
	struct thread *worker_threads;
	struct thread scanner_thread, listener_thread;
	struct stats_server *stats;
	struct event done;		/* a thread has ended */
	_Atomic int threads_running;
	size_t n_bodies;
	struct body bodies[MAX_THREADS];
};

/* A part of the service: `stop` must take a part that never started. */
struct part {
	const char *name;
	int (*start)(struct service *s, struct err *e);
	void (*stop)(struct service *s);
};

static int start_stop(struct service *s, struct err *e)
{
	if (stop_init(&s->stop) || event_init(&s->done))
		return err_set(e, STRAND_ESYS, "no event descriptors");
	return 0;
}

static void stop_stop(struct service *s)
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
	conn_close(c);
	return ret;
}

/* The number of a signal that came, 0 when none did.  SIGHUP counts as none:
 * there is nothing yet that it could ask for. */
static int take_signal(struct service *s)
{
	struct signalfd_siginfo info;

	if (read(s->signal_fd, &info, sizeof(info)) != sizeof(info))
		return 0;
	if (info.ssi_signo != SIGHUP)
		return (int)info.ssi_signo;
	log_info("SIGHUP: the configuration is read at start only");
	return 0;
}

/* An unreachable server is waited for; a signal to stop ends the wait. */
static int start_routes(struct service *s, struct err *e)
{
	struct pollfd fd = { .fd = s->signal_fd, .events = POLLIN };
	struct outage outage = { 0 };
	int ret;

	if (!s->conf->n_routes)
		return err_set(e, STRAND_EINVAL, "%s: no routes: there is nothing to serve", s->conf->file);
	for (;;) {
		ret = try_resolve(s, e);
		if (!ret || ret == STRAND_EINVAL || ret == STRAND_ENOMEM)
			return ret;
		if (ret != STRAND_ESTOPPED)
			(void)!poll(&fd, 1, (int)outage_failed(&outage, e, "waiting for it"));
		if (take_signal(s))
			return STRAND_ESTOPPED;
	}
}

static void stop_routes(struct service *s)
{
	route_table_free(s->routes);
}

static double depth_gauge(void *arg, unsigned route)
{
	return (double)queue_depth(((struct service *)arg)->queue, route);
}

static double in_flight_gauge(void *arg, unsigned route)
{
	return (double)queue_in_flight_on(((struct service *)arg)->queue, route);
}

static int start_metrics(struct service *s, struct err *e)
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
			 in_flight_gauge, s))
		return err_set(e, STRAND_ENOMEM, "out of memory");
	return 0;
}

static void stop_metrics(struct service *s)
{
	metrics_free(s->metrics);
	free(s->tags);
	free(s->sources);
}

static int start_queue(struct service *s, struct err *e)
{
	unsigned *caps = calloc(s->routes->n + 1, sizeof(*caps));
	struct queue_config config = {
		.n_routes = (unsigned)s->routes->n, .max_workers = caps,
		.max_entries = (size_t)s->conf->queue_limit, .max_bytes = (size_t)s->conf->queue_bytes,
		.max_per_route = ((size_t)s->conf->queue_limit + s->routes->n - 1) / s->routes->n,
		.n_workers = (unsigned)s->conf->workers_threads,
	};
	int ret = STRAND_ENOMEM;

	for (size_t i = 0; caps && i < s->routes->n; i++)
		caps[i] = s->routes->routes[i].conf->serial ? 1 : 0;
	if (caps)
		ret = queue_new(&s->queue, &config);
	free(caps);
	if (ret)
		return err_set(e, ret, "cannot make the queue: %s", err_name(ret));
	s->context = (struct context){ .conf = s->conf, .target = &s->target, .routes = s->routes,
				       .queue = s->queue, .metrics = s->metrics, .stop = &s->stop };
	return 0;
}

static void stop_queue(struct service *s)
{
	queue_free(s->queue);
}

static int start_stats(struct service *s, struct err *e)
{
	return s->conf->stats_socket ? stats_server_start(&s->stats, s->conf->stats_socket, s->metrics, e) : 0;
}

static void stop_stats(struct service *s)
{
	stats_server_stop(s->stats);
}

/* Tells the main thread when the last one has ended, so that it can join without
 * waiting blindly and still hear a second signal. */
static void body_run(void *arg)
{
	struct body *body = arg;
	struct service *s = body->service;

	body->fn(body->arg);
	/* acq_rel: what the thread did is seen by who sees it gone */
	atomic_fetch_sub_explicit(&s->threads_running, 1, memory_order_acq_rel);
	event_signal(&s->done);
}

static int start_thread(struct service *s, struct thread *t, const char *name, thread_fn *fn,
			void *arg, struct err *e)
{
	struct body *body = &s->bodies[s->n_bodies++];
	int ret;

	*body = (struct body){ .service = s, .fn = fn, .arg = arg };
	/* relaxed: the thread that lowers it is not started yet */
	atomic_fetch_add_explicit(&s->threads_running, 1, memory_order_relaxed);
	ret = thread_start(t, name, body_run, body, e);
	if (ret)
		atomic_fetch_sub_explicit(&s->threads_running, 1, memory_order_relaxed);
	return ret;
}

static int start_workers(struct service *s, struct err *e)
{
	size_t n = (size_t)s->conf->workers_threads;

	again_init(&s->again);
	s->workers = calloc(n, sizeof(*s->workers));
	s->worker_threads = calloc(n, sizeof(*s->worker_threads));
	if (!s->workers || !s->worker_threads)
		return err_set(e, STRAND_ENOMEM, "out of memory");
	for (size_t i = 0; i < n; i++) {
		char name[16];
		if (worker_init(&s->workers[i], &s->context, &s->again, (unsigned)i))
			return err_set(e, STRAND_ENOMEM, "out of memory");
		snprintf(name, sizeof(name), "worker-%u", (unsigned)i & 0xff);
		int ret = start_thread(s, &s->worker_threads[i], name, worker_run, &s->workers[i], e);
		if (ret)
			return ret;
	}
	return 0;
}

static void stop_workers(struct service *s)
{
	for (int i = 0; s->worker_threads && i < s->conf->workers_threads; i++)
		thread_join(&s->worker_threads[i]);
	for (int i = 0; s->workers && i < s->conf->workers_threads; i++)
		worker_release(&s->workers[i]);
	again_release(&s->again);
	free(s->worker_threads);
	free(s->workers);
}

static int start_scanner(struct service *s, struct err *e)
{
	if (scanner_init(&s->scanner, &s->context))
		return err_set(e, STRAND_ENOMEM, "out of memory");
	return start_thread(s, &s->scanner_thread, "scanner", scanner_run, &s->scanner, e);
}

static void stop_scanner(struct service *s)
{
	thread_join(&s->scanner_thread);
	if (s->scanner.context)
		scanner_release(&s->scanner);
}

static int start_listener(struct service *s, struct err *e)
{
	if (!s->conf->notifications_enabled)
		return 0;
	if (listener_init(&s->listener, &s->context, &s->scanner))
		return err_set(e, STRAND_ENOMEM, "out of memory");
	return start_thread(s, &s->listener_thread, "listener", listener_run, &s->listener, e);
}

static void stop_listener(struct service *s)
{
	thread_join(&s->listener_thread);
	if (s->listener.context)
		listener_release(&s->listener);
}

static const struct part parts[] = {
	{ "stop", start_stop, stop_stop },
	{ "routes", start_routes, stop_routes },
	{ "metrics", start_metrics, stop_metrics },
	{ "queue", start_queue, stop_queue },
	{ "stats", start_stats, stop_stats },
	{ "scanner", start_scanner, stop_scanner },
	{ "workers", start_workers, stop_workers },
	{ "listener", start_listener, stop_listener },
};

#define N_PARTS (sizeof(parts) / sizeof(parts[0]))

/* The first signal drains, the second hurries, as does the time limit. */
static void on_signal(struct service *s, int64_t *deadline)
{
	if (!take_signal(s))
		return;
	if (stop_level(&s->stop) == STOP_NONE) {
		log_info("stopping: finishing what runs");
		*deadline = clock_after_ms(s->conf->stop_timeout_ms);
		stop_raise(&s->stop, STOP_DRAIN);
	} else {
		log_info("stopping at once: what runs is left to the server");
		stop_raise(&s->stop, STOP_NOW);
	}
}

/* Until the last thread has ended. */
static void wait_for_end(struct service *s)
{
	struct pollfd fds[] = { { .fd = s->signal_fd, .events = POLLIN },
				{ .fd = s->done.fd, .events = POLLIN } };
	int64_t deadline = 0;

	/* acquire: pairs with body_run */
	while (atomic_load_explicit(&s->threads_running, memory_order_acquire) > 0) {
		int ms = deadline ? clock_left_ms(deadline) : 60000;
		int n = poll(fds, 2, ms);
		if (n > 0 && fds[0].revents)
			on_signal(s, &deadline);
		if (n > 0 && fds[1].revents)
			event_clear(&s->done);
		if (n == 0 && deadline && stop_level(&s->stop) == STOP_DRAIN) {
			log_warning("not finished within stop_timeout_ms: what runs is left to the server");
			stop_raise(&s->stop, STOP_NOW);
			deadline = 0;
		}
	}
}

static struct conn_target target_of(const struct conf *c)
{
	return (struct conn_target){
		.host = c->db_host, .port = c->db_port, .dbname = c->db_name, .user = c->db_user,
		.password = c->db_password, .service = c->db_service,
		.application_name = "strandd", .search_path = c->db_search_path,
		.connect_timeout_ms = c->db_connect_timeout_ms,
		.lock_timeout_ms = c->db_lock_timeout_ms,
		.idle_in_transaction_ms = IDLE_IN_TRANSACTION_MS,
	};
}

int service_run(const struct conf *conf, int signal_fd)
{
	struct service s = { .conf = conf, .signal_fd = signal_fd, .target = target_of(conf),
			     .done = { .fd = -1 } };
	struct err e = { 0 };
	size_t started = 0;
	int ret = 0;

	while (!ret && started < N_PARTS)
		ret = parts[started++].start(&s, &e);
	if (!ret) {
		log_info("serving %zu routes with %d workers as instance %lld", s.routes->n,
			 conf->workers_threads, (long long)s.routes->instance);
		wait_for_end(&s);
	} else if (ret != STRAND_ESTOPPED) {
		log_error("%s", e.text);
	}
	if (started > 1)
		stop_raise(&s.stop, ret ? STOP_NOW : STOP_DRAIN);
	while (started)
		parts[--started].stop(&s);
	log_info("stopped");
	if (!ret || ret == STRAND_ESTOPPED)
		return EXIT_OK;
	return ret == STRAND_EINVAL ? EXIT_USAGE : EXIT_FAULT;
}
