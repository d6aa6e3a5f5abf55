#include "strandd/service.h"

#include <poll.h>
#include <signal.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include "base/activity.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/plural.h"
#include "queue/retire.h"
#include "strandd/dump.h"
#include "strandd/reload.h"

#define TICK_MS 1000		/* while something is on its way */
#define SOON_MS 50		/* while a generation is about to take over */
#define QUIET_MS 60000
#define STOP_GRACE_MS 5000	/* what STOP_NOW may take: the service manager is not to kill before */

typedef double value_fn(const struct generation *g, unsigned route);

/* Sums over the generations that serve the slot's route: the current one, and those
 * that still drain. */
static double sum_of(struct service *s, unsigned slot, value_fn *value)
{
	double sum = 0;

	pthread_mutex_lock(&s->lock);
	for (struct generation *g = s->generations; g; g = g->older)
		for (unsigned i = 0; g->queues && i < g->routes->n; i++)
			if (g->routes->routes[i].metric == slot)
				sum += value(g, i);
	pthread_mutex_unlock(&s->lock);
	return sum;
}

static double depth(const struct generation *g, unsigned route)
{
	return (double)queue_depth(g->queues[route], route);
}

static double depth_gauge(void *arg, unsigned slot)
{
	return sum_of(arg, slot, depth);
}

static double in_flight(const struct generation *g, unsigned route)
{
	return (double)queue_in_flight_on(g->queues[route], route);
}

static double in_flight_gauge(void *arg, unsigned slot)
{
	return sum_of(arg, slot, in_flight);
}

static double suspended(const struct generation *g, unsigned route)
{
	return g->suspensions.routes && suspension_on(&g->suspensions, route);
}

static double suspended_gauge(void *arg, unsigned slot)
{
	return sum_of(arg, slot, suspended) > 0;
}

static double generations_gauge(void *arg, unsigned slot)
{
	struct service *s = arg;
	double n = 0;

	(void)slot;
	pthread_mutex_lock(&s->lock);
	for (struct generation *g = s->generations; g; g = g->older)
		n++;
	pthread_mutex_unlock(&s->lock);
	return n;
}

static int start_metrics(struct service *s, struct err *e)
{
	if (metrics_new(&s->metrics) ||
	    metric_gauge(s->metrics, "queue_depth", "Deliveries queued.", true, depth_gauge, s) ||
	    metric_gauge(s->metrics, "in_flight", "Deliveries queued or running.", true,
			 in_flight_gauge, s) ||
	    metric_gauge(s->metrics, "route_suspended", "1 while the route is suspended.", true,
			 suspended_gauge, s) ||
	    metric_gauge(s->metrics, "generations", "Configurations at work: one, more during a reload.",
			 false, generations_gauge, s) ||
	    metric_gauge(s->metrics, "cleanup_kept_strands", "Old strands that the last cleanup kept, unfinished.",
			 false, cleaner_kept, &s->cleaner_past) ||
	    metric_gauge(s->metrics, "cleanup_last_run_seconds", "How long the last cleanup took.", false,
			 cleaner_last_run_seconds, &s->cleaner_past))
		return err_set(e, STRAND_ENOMEM, "out of memory");
	return 0;
}

static int start_events(struct service *s, struct err *e)
{
	if (event_init(&s->news) || loader_init(&s->loader, &s->news))
		return err_set(e, STRAND_ESYS, "no event descriptors");
	return 0;
}

static int start_stats(struct service *s, struct err *e)
{
	const char *path = s->origin->stats_socket;

	return path ? stats_server_start(&s->stats, path, s->metrics, e) : 0;
}

static int start(struct service *s, struct err *e)
{
	int ret = start_events(s, e);

	if (!ret)
		ret = start_metrics(s, e);
	if (!ret)
		ret = start_stats(s, e);
	if (!ret)
		ret = supervisor_start(&s->supervisor, e);
	return ret ? ret : reload_first(s, e);
}

/* In reverse; takes what never started. */
static void end(struct service *s)
{
	stats_server_stop(s->stats);
	supervisor_stop(s->supervisor);
	metrics_free(s->metrics);
	loader_release(&s->loader);
	event_release(&s->news);
	conf_free(s->pending);
	pthread_mutex_destroy(&s->lock);
}

void service_stop(struct service *s, enum stop_level level)
{
	activity_set("stopping");
	s->level = level;
	s->reload_asked = false;
	loader_quit(&s->loader);
	for (struct generation *g = s->generations; g; g = g->older)
		generation_stop(g, level);
}

/* The service manager is asked for the grace once, however often it is said. */
static void hurry(struct service *s)
{
	if (s->level != STOP_NOW)
		notify_extend_anew(&s->notify, STOP_GRACE_MS);
	service_stop(s, STOP_NOW);
}

/* The first signal drains, the second hurries, as does the time limit. */
static void stop_signal(struct service *s)
{
	const struct generation *g = reload_current(s);

	if (s->level == STOP_NONE) {
		log_info("stopping: finishing what runs");
		notify_stopping(&s->notify);
		s->deadline = clock_after_ms((g ? g->conf : s->origin)->stop_timeout_ms);
		service_stop(s, STOP_DRAIN);
	} else {
		log_info("stopping at once: what runs is left to the server");
		hurry(s);
	}
}

static void take_signal(struct service *s)
{
	struct signalfd_siginfo info;

	if (read(s->signal_fd, &info, sizeof(info)) != sizeof(info))
		return;
	switch (info.ssi_signo) {
	case SIGHUP:
		if (s->level == STOP_NONE)
			reload_ask(s);
		break;
	case SIGUSR2:
		log_event(LOG_LEVEL_INFO, &(const struct log_fields){ .fold = LOG_FOLD_NEVER },
			  "SIGUSR2: the handlers' processes are replaced, one after the other");
		supervisor_replace_all(s->supervisor);
		break;
	case SIGUSR1:
		dump_state(s->generations);
		break;
	default:
		stop_signal(s);
	}
}

static unsigned batches(const struct service *s)
{
	unsigned n = 0;

	for (const struct generation *g = s->generations; g; g = g->older)
		n += generation_batches(g);
	return n;
}

static void tell_stopping(struct service *s)
{
	unsigned n = batches(s);

	if (n)
		notify_status(&s->notify, "stopping: waiting for %u batch%s", n, n == 1 ? "" : "es");
	else
		notify_status(&s->notify, "stopping");
}

/* The service manager's view. */
static void tell(struct service *s)
{
	struct generation *g = reload_current(s);
	char why[256];

	if (s->level != STOP_NONE) {
		tell_stopping(s);
		if (s->level == STOP_DRAIN)
			notify_extend(&s->notify, (int64_t)clock_left_ms(s->deadline) + STOP_GRACE_MS);
	} else if (g && (s->loader.running || s->reload_asked || reload_pending(s))) {
		notify_status(&s->notify, "reloading");
	} else if (progress_in_trouble(g ? &g->progress : &s->loader.progress, why, sizeof(why)) ||
		   (!g && s->generations && progress_in_trouble(&s->generations->progress, why, sizeof(why)))) {
		notify_status(&s->notify, "waiting for the server: %s", why);
	} else if (g) {
		notify_status(&s->notify, "serving %zu route%s with %d worker%s", g->routes->n, plural(g->routes->n),
			      g->conf->workers_threads, plural((unsigned)g->conf->workers_threads));
	} else {
		notify_status(&s->notify, "starting");
	}
	if (!g && s->level == STOP_NONE)
		notify_extend(&s->notify, QUIET_MS);
	notify_alive(&s->notify);
}

static int wait_ms(const struct service *s)
{
	int ms = QUIET_MS;

	if (reload_pending(s) && reload_current(s))
		ms = SOON_MS;
	else if (s->level != STOP_NONE || !reload_current(s))
		ms = TICK_MS;
	if (s->level == STOP_DRAIN && clock_left_ms(s->deadline) < ms)
		ms = clock_left_ms(s->deadline);
	return notify_due(&s->notify, ms);
}

/* Until the last thread of the last generation has ended. */
static void serve(struct service *s)
{
	struct pollfd fds[] = { { .fd = s->signal_fd, .events = POLLIN },
				{ .fd = s->news.fd, .events = POLLIN } };

	for (;;) {
		reload_step(s);
		if (s->level != STOP_NONE && !s->generations && !s->loader.running)
			return;
		tell(s);
		int n = poll(fds, 2, wait_ms(s));
		if (n > 0 && fds[1].revents)
			event_clear(&s->news);
		if (n > 0 && fds[0].revents)
			take_signal(s);
		if (s->level == STOP_DRAIN && clock_left_ms(s->deadline) == 0) {
			log_warning("not finished within stop_timeout: what runs is left to the server");
			hurry(s);
		}
	}
}

int service_run(const struct conf *conf, int signal_fd)
{
	struct service s = { .origin = conf, .signal_fd = signal_fd, .news = { .fd = -1 },
			     .lock = PTHREAD_MUTEX_INITIALIZER, .code = EXIT_OK };
	struct err e = { 0 };
	int ret;

	retire_start();
	notify_init(&s.notify);
	ret = start(&s, &e);
	if (ret) {
		log_error("%s", e.text);
		s.code = ret == STRAND_EINVAL ? EXIT_USAGE : EXIT_FAULT;
	} else {
		serve(&s);
	}
	end(&s);
	log_info("stopped");
	return s.code;
}
