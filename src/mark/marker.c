#include "mark/marker.h"

#include <stdlib.h>

#include "base/activity.h"
#include "base/clock.h"
#include "base/log.h"
#include "mark/mark.h"
#include "queue/sleep.h"

#define ALL_MS 60000		/* what other instances left behind is looked for this often */
#define AGAIN_MS 200		/* what could not be had is tried again after this */

int marker_init(struct marker *m, const struct context *x)
{
	size_t n = x->routes->n ? x->routes->n : 1;

	*m = (struct marker){ .context = x, .event = { .fd = -1 }, .wanted = calloc(n, sizeof(*m->wanted)),
			      .routes = calloc(n, sizeof(*m->routes)),
			      .trouble = calloc(n, sizeof(*m->trouble)) };
	return m->wanted && m->routes && m->trouble ? event_init(&m->event) : STRAND_ENOMEM;
}

void marker_release(struct marker *m)
{
	for (size_t i = 0; m->routes && i < m->context->routes->n; i++)
		mark_route_release(&m->routes[i]);
	free(m->wanted);
	free(m->routes);
	free(m->trouble);
	m->wanted = NULL;
	m->routes = NULL;
	m->trouble = NULL;
	event_release(&m->event);
}

void marker_wake(struct marker *m, unsigned route)
{
	/* release: the receipt's commit comes before; only the first needs to wake it */
	if (!atomic_exchange_explicit(&m->wanted[route], true, memory_order_acq_rel))
		event_signal(&m->event);
}

static void want_all(struct marker *m)
{
	/* relaxed: told to itself */
	for (size_t i = 0; i < m->context->routes->n; i++)
		atomic_store_explicit(&m->wanted[i], true, memory_order_relaxed);
}

static int connect_marker(struct marker *m, struct err *e)
{
	const struct context *x = m->context;
	int64_t deadline = clock_after_ms(x->conf->db_connect_timeout_ms);
	int ret = route_table_connect(x->routes, &m->conn, x->target, deadline, x->stop->drain.fd, e);

	if (!ret)
		ret = mark_prepare(m->conn, deadline, e);
	for (size_t i = 0; i < x->routes->n; i++)
		mark_route_release(&m->routes[i]);
	want_all(m);
	return ret;
}

static void longer(int64_t *pause_ms, int64_t ms)
{
	if (ms > *pause_ms)
		*pause_ms = ms;
}

/* `*pause_ms` rises to the milliseconds after which what is left is to be tried again;
 * 0: nothing is. */
static int round_of_routes(struct marker *m, int64_t *pause_ms, struct err *e)
{
	const struct context *x = m->context;

	for (unsigned i = 0; i < x->routes->n; i++) {
		const struct conf_route *conf = x->routes->routes[i].conf;
		const struct log_fields fields = { .route = conf->tag, .source = conf->source };
		struct mark_result result = { 0 };
		int ret;

		/* acquire: pairs with marker_wake */
		if (!atomic_exchange_explicit(&m->wanted[i], false, memory_order_acq_rel))
			continue;
		activity_set_on("marking", conf->tag, 0, 0);
		ret = mark_route(&m->routes[i], &x->routes->routes[i], m->conn, x->stop, &result, e);
		count(x, METRIC_MARKED, i, result.marked);
		if (ret || result.left) {
			atomic_store_explicit(&m->wanted[i], true, memory_order_relaxed);
			longer(pause_ms, AGAIN_MS);
		}
		if (ret == STRAND_ESTOPPED || !conn_usable(m->conn))
			return ret ? ret : STRAND_ECONN;
		if (ret)
			longer(pause_ms, outage_failed_on(&m->trouble[i], &fields, e, "strands are marked later"));
		else if (!result.left)
			outage_over_on(&m->trouble[i], &fields, "strands are marked again");
	}
	return 0;
}

static void disconnect(struct marker *m)
{
	conn_close(m->conn);
	m->conn = NULL;
}

void marker_run(void *arg)
{
	struct marker *m = arg;
	const struct context *x = m->context;
	struct outage outage = { 0 };
	int64_t all_at = 0;
	struct err e;

	while (stop_level(x->stop) == STOP_NONE) {
		int64_t pause_ms = 0;
		int ret = m->conn ? 0 : connect_marker(m, &e);

		if (!ret && clock_now() >= all_at) {
			want_all(m);
			all_at = clock_after_ms(ALL_MS);
		}
		if (!ret)
			ret = round_of_routes(m, &pause_ms, &e);
		if (!ret) {
			outage_over(&outage, "connected again");
			if (pause_ms)
				(void)!event_wait(&x->stop->drain, clock_after_ms(pause_ms));
			else
				rest_on(&m->event, all_at, x->stop->drain.fd);
			continue;
		}
		disconnect(m);
		if (ret == STRAND_ESTOPPED)
			break;
		count(x, METRIC_RECONNECTS, METRIC_NO_ROUTE, 1);
		(void)!event_wait(&x->stop->drain, clock_after_ms(outage_failed(&outage, &e, "trying again")));
	}
	disconnect(m);
}
