#include "mark/marker.h"

#include <stdlib.h>

#include "base/activity.h"
#include "base/backoff.h"
#include "base/clock.h"
#include "base/log.h"
#include "mark/mark.h"
#include "queue/sleep.h"

#define ALL_MS 60000		/* what other instances left behind is looked for this often */
#define AGAIN_MS 200		/* what could not be had is tried again after this */
#define REFUSED_FIRST_MS 100	/* what was refused is, after this at first */
#define REFUSED_CAP_MS ALL_MS

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

/* But for routes whose turn is to come anyway, at its own pace. */
static void want_all(struct marker *m)
{
	/* relaxed: told to itself */
	for (size_t i = 0; i < m->context->routes->n; i++)
		if (!m->routes[i].left)
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

/* When the route is to be looked at; INT64_MAX: there is nothing. */
static int64_t due_at(const struct marker *m, unsigned route)
{
	const struct mark_route *r = &m->routes[route];

	/* relaxed: whoever takes it orders */
	if (atomic_load_explicit(&m->wanted[route], memory_order_relaxed))
		return r->news_at;
	return r->left ? r->again_at : INT64_MAX;
}

static int64_t next_due(const struct marker *m, int64_t until)
{
	for (unsigned i = 0; i < m->context->routes->n; i++)
		if (due_at(m, i) < until)
			until = due_at(m, i);
	return until;
}

/* After a round over the route.  Refused marks wait longer and longer; those that are
 * new, or were not reached, do not wait for them for long, and other routes not at all. */
static void plan_next(struct marker *m, unsigned route, int ret, const struct mark_result *result,
		      const struct err *e)
{
	const struct conf_route *conf = m->context->routes->routes[route].conf;
	const struct log_fields fields = { .route = conf->tag, .source = conf->source };
	struct mark_route *r = &m->routes[route];
	struct outage *trouble = &m->trouble[route];
	int64_t soon_ms = ret ? outage_failed_on(trouble, &fields, e, "strands are marked later") : AGAIN_MS;

	if (!r->left)
		outage_over_on(trouble, &fields, "strands are marked again");
	r->news_at = ret ? clock_after_ms(soon_ms) : 0;
	r->again_at = clock_after_ms(r->news || result->marked || result->held ? soon_ms
				     : backoff_ms(trouble->failures, REFUSED_FIRST_MS, REFUSED_CAP_MS));
}

static int round_of_routes(struct marker *m, struct err *e)
{
	const struct context *x = m->context;

	for (unsigned i = 0; i < x->routes->n; i++) {
		struct mark_result result = { 0 };
		bool news;
		int ret;

		if (due_at(m, i) > clock_now())
			continue;
		/* acquire: pairs with marker_wake */
		news = atomic_exchange_explicit(&m->wanted[i], false, memory_order_acq_rel);
		activity_set_on("marking", x->routes->routes[i].conf->tag, 0, 0);
		ret = mark_route(&m->routes[i], &x->routes->routes[i], news, m->conn, x->stop, &result, e);
		count(x, METRIC_MARKED, i, result.marked);
		if (ret == STRAND_ESTOPPED || !conn_usable(m->conn))
			return ret ? ret : STRAND_ECONN;
		plan_next(m, i, ret, &result, e);
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
		int ret = m->conn ? 0 : connect_marker(m, &e);

		if (!ret && clock_now() >= all_at) {
			want_all(m);
			all_at = clock_after_ms(ALL_MS);
		}
		if (!ret)
			ret = round_of_routes(m, &e);
		if (!ret) {
			outage_over(&outage, "connected again");
			rest_on(&m->event, next_due(m, all_at), x->stop->drain.fd);
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
