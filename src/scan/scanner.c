#include "scan/scanner.h"

#include <stdlib.h>

#include "base/activity.h"
#include "base/clock.h"
#include "base/log.h"
#include "queue/sleep.h"
#include "scan/due.h"
#include "scan/pass.h"
#include "scan/urgent.h"

#define RECORD_MS 10000		/* positions are recorded at most this often */
#define ROOM_MS 5		/* a pass without room looks again after this */

/* No handler runs in this session, so the planner is pinned for good: pages are
 * read through the (xact_id, hash) index whatever the statistics say.  A table
 * that is locked for longer must not hold up the other routes. */
static const char pins_sql[] =
	"SET lock_timeout = '250ms';"
	"SET plan_cache_mode = force_generic_plan; SET enable_seqscan = off; SET enable_bitmapscan = off;"
	" SET enable_hashjoin = off; SET enable_mergejoin = off; SET enable_sort = off;"
	" SET max_parallel_workers_per_gather = 0";

int scanner_init(struct scanner *s, const struct context *x)
{
	*s = (struct scanner){ .context = x, .event = { .fd = -1 } };
	s->routes = calloc(x->routes->n ? x->routes->n : 1, sizeof(*s->routes));
	if (!s->routes)
		return STRAND_ENOMEM;
	for (size_t i = 0; i < x->routes->n; i++)
		atomic_init(&s->routes[i].due_at, INT64_MAX);
	return event_init(&s->event);
}

void scanner_release(struct scanner *s)
{
	for (unsigned i = 0; s->routes && i < s->context->routes->n; i++) {
		pass_abandon(s, i);
		snapshot_release(&s->routes[i].since);
	}
	free(s->routes);
	s->routes = NULL;
	event_release(&s->event);
}

void scanner_mark(struct scanner *s, unsigned route)
{
	/* release: the dropped hint's commit is seen by whoever sees the mark;
	 * only the first mark needs to wake the scanner. */
	if (!atomic_exchange_explicit(&s->routes[route].marked, true, memory_order_acq_rel))
		event_signal(&s->event);
}

void scanner_due(struct scanner *s, unsigned route, int64_t ms)
{
	/* release: the retry's commit comes before */
	atomic_store_explicit(&s->routes[route].news, true, memory_order_release);
	scanner_wake_at(s, route, ms);
}

void scanner_wake_at(struct scanner *s, unsigned route, int64_t ms)
{
	_Atomic int64_t *due_at = &s->routes[route].due_at;
	int64_t due = clock_after_ms(ms);
	/* relaxed: a time on its own; the event's system call orders the rest */
	int64_t known = atomic_load_explicit(due_at, memory_order_relaxed);

	while (due < known)
		if (atomic_compare_exchange_weak_explicit(due_at, &known, due, memory_order_relaxed,
							  memory_order_relaxed)) {
			event_signal(&s->event);
			return;
		}
}

void scanner_look(struct scanner *s)
{
	for (unsigned i = 0; i < s->context->routes->n; i++)
		scanner_due(s, i, 0);
}

void scanner_listening(struct scanner *s)
{
	for (size_t i = 0; i < s->context->routes->n; i++)
		atomic_store_explicit(&s->routes[i].marked, true, memory_order_release);
	/* release: pairs with the scanner's load, after which it takes its first snapshot */
	atomic_store_explicit(&s->listening, true, memory_order_release);
	event_signal(&s->event);
}

static void disconnect(struct scanner *s)
{
	conn_close(s->conn);
	s->conn = NULL;
}

/* A new connection may lead to another server, where the numbers of the old
 * one mean nothing: every route starts from its recorded position. */
static int connect_scanner(struct scanner *s, struct err *e)
{
	const struct context *x = s->context;
	int64_t timeout = x->conf->db_connect_timeout_ms;
	int ret = route_table_connect(x->routes, &s->conn, x->target, clock_after_ms(timeout), x->stop->now.fd, e);

	if (ret)
		return ret;
	ret = conn_script(s->conn, pins_sql, clock_after_ms(timeout), e);
	if (ret)
		disconnect(s);
	for (size_t i = 0; i < x->routes->n; i++) {
		s->routes[i].prepared = false;
		s->routes[i].next_at = 0;
		s->routes[i].look_at = 0;
		s->routes[i].seen = false;
		s->routes[i].read_to = 0;
		pass_abandon(s, (unsigned)i);
	}
	return ret;
}

/* Is it this route's turn?  After an error only when its pause is over. */
static bool is_due(struct scan_route *sr, int64_t now)
{
	/* relaxed: who takes the mark orders */
	return now >= sr->next_at ||
	       (!sr->trouble.failures && atomic_load_explicit(&sr->marked, memory_order_relaxed));
}

static struct log_fields fields_of(const struct scanner *s, unsigned route)
{
	const struct conf_route *conf = s->context->routes->routes[route].conf;

	return (struct log_fields){ .route = conf->tag, .source = conf->source };
}

static void trouble(struct scanner *s, unsigned route, const struct err *e)
{
	struct scan_route *sr = &s->routes[route];
	const struct log_fields fields = fields_of(s, route);

	sr->next_at = clock_after_ms(outage_failed_on(&sr->trouble, &fields, e, "scan put off"));
}

static int serve_route(struct scanner *s, unsigned route, struct err *e)
{
	struct scan_route *sr = &s->routes[route];
	/* acquire: what was committed before the mark is visible to the snapshot
	 * that is taken after it */
	bool marked = atomic_exchange_explicit(&sr->marked, false, memory_order_acq_rel);
	/* A mark during a pass is for the next one: this one's snapshot is older. */
	bool again = marked && sr->running;
	const struct log_fields fields = fields_of(s, route);
	int ret;

	activity_set_on("scanning", fields.route, 0, 0);
	if (marked)
		urgent_mark(sr);
	ret = pass_run(s, route, e);

	sr->next_at = ret == STRAND_EFULL ? clock_after_ms(suspension_on(s->context->suspensions, route)
							   ? SUSPENDED_MS : ROOM_MS)
		: again || sr->running ? 0 : clock_after_ms(s->context->conf->scan_interval_ms);
	/* relaxed: this thread's own note */
	if (again && (ret || sr->running))
		atomic_store_explicit(&sr->marked, true, memory_order_relaxed);
	if (!ret)
		outage_over_on(&sr->trouble, &fields, "the route is scanned again");
	if (!ret && clock_now() - sr->recorded_at > RECORD_MS * NSEC_PER_MSEC)
		ret = pass_record_position(s, route, e);
	return ret;
}

static int64_t next_due(const struct scanner *s)
{
	int64_t due = clock_after_ms(s->context->conf->scan_interval_ms);

	for (size_t i = 0; i < s->context->routes->n; i++) {
		if (s->routes[i].next_at < due)
			due = s->routes[i].next_at;
		if (due_next(&s->routes[i]) < due)
			due = due_next(&s->routes[i]);
	}
	return due;
}

/* What is due waits for no route's pass. */
static int serve_due(struct scanner *s, struct err *e)
{
	for (unsigned i = 0; i < s->context->routes->n; i++) {
		int ret = due_is_now(&s->routes[i], clock_now()) ? due_serve(s, i, e) : 0;
		if (ret == STRAND_ESTOPPED || !conn_usable(s->conn))
			return ret;
		if (ret)
			trouble(s, i, e);
	}
	return 0;
}

/* One round over all routes, each with its turn.  An error of one route's table
 * does not keep the others waiting. */
static int round_of_routes(struct scanner *s, struct err *e)
{
	for (unsigned i = 0; i < s->context->routes->n; i++) {
		int ret = serve_due(s, e);
		if (!ret && is_due(&s->routes[i], clock_now()))
			ret = serve_route(s, i, e);
		if (!ret || ret == STRAND_EFULL)
			continue;
		if (ret == STRAND_ESTOPPED || !conn_usable(s->conn))
			return ret;
		trouble(s, i, e);
	}
	return 0;
}

static void last_positions(struct scanner *s)
{
	struct err ignored;

	for (unsigned i = 0; s->conn && i < s->context->routes->n; i++)
		if (pass_record_position(s, i, &ignored))
			break;
}

/* After a round: a route whose table cannot be read is not waited for. */
static void tell_progress(struct scanner *s)
{
	struct progress *p = s->context->progress;

	progress_trouble(p, PROGRESS_SCANNER, NULL);
	for (size_t i = 0; i < s->context->routes->n && !progress_is_caught_up(p); i++)
		if (!s->routes[i].seen && !s->routes[i].trouble.failures)
			return;
	progress_caught_up(p);
}

void scanner_run(void *arg)
{
	struct scanner *s = arg;
	const struct context *x = s->context;
	struct outage outage = { 0 };
	struct err e;
	int ret;

	while (stop_level(x->stop) == STOP_NONE) {
		/* acquire: see scanner_listening */
		if (x->conf->notifications_enabled &&
		    !atomic_load_explicit(&s->listening, memory_order_acquire)) {
			rest_on(&s->event, clock_after_ms(1000), x->stop->drain.fd);
			continue;
		}
		ret = s->conn ? 0 : connect_scanner(s, &e);
		if (!ret) {
			progress_scanning(x->progress);
			ret = round_of_routes(s, &e);
		}
		if (!ret) {
			tell_progress(s);
			outage_over(&outage, "connected again");
			rest_on(&s->event, next_due(s), x->stop->drain.fd);
			continue;
		}
		if (ret == STRAND_ESTOPPED)
			break;
		disconnect(s);
		count(x, METRIC_RECONNECTS, METRIC_NO_ROUTE, 1);
		activity_set("waiting to connect again");
		progress_trouble(x->progress, PROGRESS_SCANNER, e.text);
		(void)event_wait(&x->stop->drain,
				 clock_after_ms(outage_failed(&outage, &e, "trying again")));
	}
	last_positions(s);
	disconnect(s);
}
