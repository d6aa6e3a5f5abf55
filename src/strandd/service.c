#include "strandd/service.h"

#include <poll.h>

#include "base/activity.h"
#include "base/clock.h"
#include "base/log.h"
#include "strandd/parts.h"

/* The server frees what an abandoned transaction of ours holds after this. */
#define IDLE_IN_TRANSACTION_MS 10000

static const struct part {
	int (*start)(struct service *s, struct err *e);
	void (*stop)(struct service *s);
} parts[] = {
	{ start_stop, stop_stop },
	{ start_routes, stop_routes },
	{ start_metrics, stop_metrics },
	{ start_queue, stop_queue },
	{ start_stats, stop_stats },
	{ start_scanner, stop_scanner },
	{ start_marker, stop_marker },
	{ start_workers, stop_workers },
	{ start_listener, stop_listener },
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
			log_warning("not finished within stop_timeout: what runs is left to the server");
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
		log_set_instance(s.routes->instance);
		activity_set("serving");
		log_info("serving %zu routes with %d workers", s.routes->n, conf->workers_threads);
		wait_for_end(&s);
	} else if (ret != STRAND_ESTOPPED) {
		log_error("%s", e.text);
	}
	activity_set("stopping");
	if (started > 1)
		stop_raise(&s.stop, ret ? STOP_NOW : STOP_DRAIN);
	while (started)
		parts[--started].stop(&s);
	log_info("stopped");
	if (!ret || ret == STRAND_ESTOPPED)
		return EXIT_OK;
	return ret == STRAND_EINVAL ? EXIT_USAGE : EXIT_FAULT;
}
