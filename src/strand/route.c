#include "strand/route.h"

#include <stdio.h>
#include <stdlib.h>

#include "base/log.h"
#include "conf/channel.h"
#include "strand/resolve.h"

static void set_timeout(struct route *r)
{
	long long ms = r->conf->timeout_ms;

	if (ms)
		snprintf(r->timeout, sizeof(r->timeout), "%lld.%03lld", ms / 1000, ms % 1000);
	else
		snprintf(r->timeout, sizeof(r->timeout), "NULL::pg_catalog.numeric");
}

static void route_release(struct route *r)
{
	free(r->channel);
	free(r->source);
	free(r->receiver);
	free(r->receipts);
	free(r->routes);
	free(r->handler);
	free(r->tag_array);
	free(r->where);
}

void route_table_free(struct route_table *t)
{
	if (!t)
		return;
	for (size_t i = 0; i < t->n; i++)
		route_release(&t->routes[i]);
	free(t->routes);
	free(t);
}

static int route_init(struct route *r, const struct conf *conf, const struct conf_route *route)
{
	r->conf = route;
	r->module = conf_receiver(conf, route->tag);
	r->channel = channel_of(route->tag);
	r->max_batch_bytes = conf->workers_max_batch_bytes;
	set_timeout(r);
	return r->channel ? 0 : STRAND_ENOMEM;
}

static struct route_table *table_new(const struct conf *conf, const struct conf_route *routes, size_t n)
{
	struct route_table *t = calloc(1, sizeof(*t));

	if (!t)
		return NULL;
	t->instance_text[0] = '0';
	t->routes = calloc(n ? n : 1, sizeof(*t->routes));
	for (size_t i = 0; t->routes && i < n; i++) {
		struct route *r = &t->routes[t->n++];
		r->index = (unsigned)i;
		if (route_init(r, conf, &routes[i]))
			break;
	}
	if (!t->routes || t->n < n || (t->n && !t->routes[t->n - 1].channel)) {
		route_table_free(t);
		return NULL;
	}
	return t;
}

/* All faults of a configuration are told in one start, each with its line. */
static int resolve_all(struct route_table *t, const struct conf *conf, struct conn *c, struct err *e)
{
	struct err one;
	int first = 0;

	for (size_t i = 0; i < t->n; i++) {
		int ret = resolve_route(&t->routes[i], c, &one);
		if (ret == STRAND_EINVAL)
			log_event(LOG_LEVEL_ERROR, &(struct log_fields){ .route = t->routes[i].conf->tag,
				  .source = t->routes[i].conf->source, .fold = LOG_FOLD_NEVER },
				  "%s:%d: route \"%s\": %s", t->routes[i].conf->file, t->routes[i].conf->line,
				  t->routes[i].conf->tag, one.text);
		else if (ret) {
			if (e)
				*e = one;
			return ret;
		}
		first = first ? first : ret;
	}
	return first ? err_set(e, first, "%s: not every route can be served; see the lines above",
			       conf->file) : 0;
}

int route_table_resolve(struct route_table **ret_table, const struct conf *conf,
			struct conn *c, struct err *e)
{
	struct route_table *t = table_new(conf, conf->routes, conf->n_routes);
	int ret;

	if (!t)
		return err_set(e, STRAND_ENOMEM, "out of memory");
	ret = resolve_schema(c, e);
	if (!ret)
		ret = resolve_all(t, conf, c, e);
	if (!ret)
		ret = resolve_instance(&t->instance, c, e);
	if (ret) {
		route_table_free(t);
		return ret;
	}
	snprintf(t->instance_text, sizeof(t->instance_text), "%lld", (long long)t->instance);
	*ret_table = t;
	return 0;
}

int route_table_resolve_one(struct route_table **ret_table, const struct conf *conf, const struct conf_route *route,
			    struct conn *c, struct err *e)
{
	struct route_table *t = table_new(conf, route, 1);
	int ret;

	if (!t)
		return err_set(e, STRAND_ENOMEM, "out of memory");
	ret = resolve_schema(c, e);
	if (!ret)
		ret = resolve_route(&t->routes[0], c, e);
	if (ret)
		route_table_free(t);
	else
		*ret_table = t;
	return ret;
}

int route_table_connect(const struct route_table *t, struct conn **ret_conn, const struct conn_target *target,
			int64_t deadline, int stop_fd, struct err *e)
{
	struct conn *c;
	int ret = conn_open(&c, target, deadline, stop_fd, e);

	if (ret)
		return ret;
	for (size_t i = 0; !ret && i < t->n; i++)
		ret = resolve_system(&t->routes[i], c, deadline, e);
	if (ret)
		conn_close(c);
	else
		*ret_conn = c;
	return ret;
}
