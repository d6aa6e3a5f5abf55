/* Which configured route --route and --source mean. */
#include <stdlib.h>
#include <string.h>

#include "base/nearest.h"
#include "strandctl/handler_test.h"

struct choice {
	const struct conf_route *route;
	size_t n;
	struct buf sources;	/* of those with the tag, for people */
};

static int same_table(struct ctl *ctl, const char *configured, const char *given, bool *ret_same, struct err *e)
{
	const char *values[] = { configured, given };
	PGresult *res;
	int ret = ctl_query(ctl, "SELECT to_regclass($1) = to_regclass($2)", 2, values, &res, e);

	if (ret)
		return ret;
	*ret_same = *PQgetvalue(res, 0, 0) == 't';
	PQclear(res);
	return 0;
}

static int consider(struct choice *c, const struct handler_args *args, const struct conf_route *route, struct err *e)
{
	bool same = true;
	int ret = 0;

	if (strcmp(route->tag, args->route) != 0)
		return 0;
	buf_addf(&c->sources, "%s%s", c->sources.len ? ", " : "", route->source);
	if (args->source)
		ret = same_table(args->ctl, route->source, args->source, &same, e);
	if (ret || !same)
		return ret;
	c->route = route;
	c->n++;
	return 0;
}

static int no_route(const struct handler_args *args, const struct choice *c, struct err *e)
{
	const struct conf *conf = args->ctl->conf;
	const char **tags = calloc(conf->n_routes + 1, sizeof(*tags));
	const char *near;

	if (c->sources.len && args->source) {
		free(tags);
		return err_set(e, STRAND_ENOENT, "no route for %s from %s is configured in %s; there is one from: %s",
			       args->route, args->source, conf->file, c->sources.data);
	}
	for (size_t i = 0; tags && i < conf->n_routes; i++)
		tags[i] = conf->routes[i].tag;
	near = tags ? nearest(args->route, tags, conf->n_routes) : NULL;
	if (!conf->n_routes)
		err_set(e, STRAND_ENOENT, "no route is configured: --config FILE names the configuration that has %s",
			args->route);
	else
		err_set(e, STRAND_ENOENT, "no route for %s is configured in %s%s%s%s", args->route, conf->file,
			near ? "; did you mean " : "", near ? near : "", near ? "?" : "");
	free(tags);
	return STRAND_ENOENT;
}

int handler_choose_route(const struct conf_route **ret, const struct handler_args *args, struct err *e)
{
	const struct conf *conf = args->ctl->conf;
	struct choice c = { 0 };
	int code = 0;

	buf_init(&c.sources);
	for (size_t i = 0; !code && i < conf->n_routes; i++)
		code = consider(&c, args, &conf->routes[i], e);
	for (size_t i = 0; !code && i < conf->n_left_out; i++)
		code = consider(&c, args, &conf->left_out[i], e);
	if (!code && c.n > 1)
		code = err_set(e, STRAND_EINVAL, "%s is a route of several tables: say which with --source: %s", args->route,
			       c.sources.data);
	else if (!code && !c.n)
		code = no_route(args, &c, e);
	*ret = c.route;
	buf_release(&c.sources);
	return code;
}
