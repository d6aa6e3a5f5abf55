#include "listen/listener.h"

#include <string.h>

#include "base/activity.h"
#include "base/buf.h"
#include "base/clock.h"
#include "base/failpoint.h"
#include "base/log.h"
#include "base/outage.h"
#include "base/plural.h"

#define QUIET_MS 15000		/* silence after which the peer is asked whether it lives */
#define ANSWER_MS 10000
/* On it an operator's command says that it has changed a route's row; no tag's
 * channel holds a colon. */
#define ROUTES_CHANNEL "strandd:routes"

int listener_init(struct listener *l, const struct context *x, struct scanner *s)
{
	*l = (struct listener){ .context = x, .scanner = s };
	return channels_init(&l->channels, x->routes);
}

void listener_release(struct listener *l)
{
	channels_release(&l->channels);
}

/* One notification: to every route of its channel. */
static void dispatch(struct listener *l, const PGnotify *notify)
{
	const struct context *x = l->context;
	const struct channel *ch = channels_find(&l->channels, notify->relname);
	const struct channel *end = l->channels.rows + l->channels.n;
	size_t len = strlen(notify->extra);

	if (!strcmp(notify->relname, ROUTES_CHANNEL))
		scanner_look(l->scanner);
	for (; ch && ch < end && !strcmp(ch->name, notify->relname); ch++) {
		count(x, METRIC_NOTIFICATIONS, ch->route, 1);
		switch (queue_offer(x->queues[ch->route], ch->route, notify->extra, len,
				    ch->high ? QUEUE_HIGH : 0)) {
		case QUEUE_ADDED:
			break;
		case QUEUE_DUPLICATE:
			count(x, METRIC_DUPLICATES, ch->route, 1);
			break;
		case QUEUE_FULL:
			count(x, METRIC_OVERFLOWS, ch->route, 1);
			scanner_mark(l->scanner, ch->route);
			break;
		}
	}
}

static int listen_all(struct listener *l, struct conn *c, struct err *e)
{
	struct buf sql = BUF_INIT;
	int ret;

	buf_init(&sql);
	buf_adds(&sql, "LISTEN \"" ROUTES_CHANNEL "\";");
	for (size_t i = 0; i < l->channels.n; i++) {
		const char *name = l->channels.rows[i].name;
		char *quoted = PQescapeIdentifier(conn_pg(c), name, strlen(name));
		buf_addf(&sql, "LISTEN %s;", quoted ? quoted : "");
		PQfreemem(quoted);
	}
	ret = sql.failed ? err_set(e, STRAND_ENOMEM, "out of memory")
		: conn_script(c, sql.data, clock_after_ms(ANSWER_MS), e);
	buf_release(&sql);
	return ret;
}

static void drain(struct listener *l, struct conn *c)
{
	PGnotify *notify;

	while ((notify = PQnotifies(conn_pg(c)))) {
		(void)FAILPOINT("listener.notified");
		dispatch(l, notify);
		PQfreemem(notify);
	}
}

/* Serves one connection until it breaks or the daemon stops. */
static int serve(struct listener *l, struct conn *c, struct err *e)
{
	int ret = 0;

	activity_set("listening");
	while (!ret && stop_level(l->context->stop) == STOP_NONE) {
		ret = conn_wait_notify(c, clock_after_ms(QUIET_MS), e);
		if (ret == STRAND_ETIMEOUT)
			ret = conn_query(c, "SELECT 1", 0, NULL, clock_after_ms(ANSWER_MS), NULL, e);
		drain(l, c);
	}
	return ret;
}

/* Whatever is committed before the LISTEN is the scan's, whatever after it is
 * announced: so the scanner may start only now. */
static int connect_and_serve(struct listener *l, struct outage *outage, struct err *e)
{
	const struct context *x = l->context;
	struct conn *c;
	int ret = route_table_connect(x->routes, &c, x->target, clock_after_ms(x->conf->db_connect_timeout_ms),
				      x->stop->drain.fd, e);

	if (ret)
		return ret;
	ret = listen_all(l, c, e);
	if (!ret) {
		log_info("listening on %zu channel%s", l->channels.n, plural(l->channels.n));
		outage_over(outage, "connected again");
		progress_trouble(x->progress, PROGRESS_LISTENER, NULL);
		scanner_listening(l->scanner);
		ret = serve(l, c, e);
	}
	conn_close(c);
	return ret;
}

void listener_run(void *arg)
{
	struct listener *l = arg;
	const struct context *x = l->context;
	struct outage outage = { 0 };
	struct err e;

	while (stop_level(x->stop) == STOP_NONE) {
		int ret = connect_and_serve(l, &outage, &e);
		if (stop_level(x->stop) != STOP_NONE || ret == STRAND_ESTOPPED)
			break;
		count(x, METRIC_RECONNECTS, METRIC_NO_ROUTE, 1);
		activity_set("waiting to connect again");
		progress_trouble(x->progress, PROGRESS_LISTENER, e.text);
		(void)event_wait(&x->stop->drain,
				 clock_after_ms(outage_failed(&outage, &e, "trying again")));
	}
}
