#include "conf/check.h"

#include <stdlib.h>
#include <string.h>

#include "base/nearest.h"
#include "conf/channel.h"
#include "conf/option.h"

/* Do two names mean one table, as SQL folds case outside quotes? */
static bool same_name(const char *a, const char *b)
{
	bool quoted = false;

	for (; *a && *b; a++, b++) {
		char x = *a, y = *b;

		if (!quoted && x >= 'A' && x <= 'Z')
			x = (char)(x - 'A' + 'a');
		if (!quoted && y >= 'A' && y <= 'Z')
			y = (char)(y - 'A' + 'a');
		if (x != y)
			return false;
		quoted ^= x == '"';
	}
	return *a == *b;
}

static bool has_blank(const char *text)
{
	for (; *text; text++) {
		if ((unsigned char)*text <= ' ' || *text == 0x7f)
			return true;
	}
	return false;
}

/* --- modules ----------------------------------------------------------------- */

static bool clash(const struct conf_module *m, const struct conf_module *other, struct reports *reports)
{
	const struct place place = { m->file, m->line }, there = { other->file, other->line };
	char quoted[QUOTE_SIZE], where[PLACE_SIZE];

	if (!other->name || !other->table)
		return false;
	place_text(where, &there);
	if (strcmp(other->name, m->name) == 0)
		report_error(reports, &place, "module %s is listed twice (%s)", quote(quoted, m->name), where);
	else if (same_name(other->table, m->table))
		report_error(reports, &place, "modules \"%s\" (%s) and \"%s\" have the same table %s",
			     other->name, where, m->name, quote(quoted, m->table));
	else
		return false;
	return true;
}

static void check_module(const struct conf *c, const struct conf_module *m, struct reports *reports)
{
	const struct place place = { m->file, m->line };
	char quoted[QUOTE_SIZE];

	if (!m->name || !m->table)
		return;
	quote(quoted, m->name);
	if (strchr(m->name, ':') || has_blank(m->name))
		report_error(reports, &place, "module name %s must hold neither ':' nor blanks", quoted);
	if (conf_is_attribute(m->name, strlen(m->name)))
		report_error(reports, &place,
			     "module name %s is taken: \"%s:...\" is an attribute of strands", quoted, m->name);
	for (const struct conf_module *other = c->modules; other < m; other++) {
		if (clash(m, other, reports))
			return;
	}
}

/* --- routes ------------------------------------------------------------------ */

static void unknown_module(const struct conf *c, const struct place *place, const char *tag,
			   struct reports *reports)
{
	size_t len = strcspn(tag, ":"), n = 0;
	const char **names = calloc(c->n_modules + 1, sizeof(*names)), *near;
	char quoted[QUOTE_SIZE], name[CHANNEL_MAX_BYTES + 1];

	if (!names) {
		reports->no_memory = true;
		return;
	}
	memcpy(name, tag, len);
	name[len] = '\0';
	for (size_t i = 0; i < c->n_modules; i++) {
		if (c->modules[i].name)
			names[n++] = c->modules[i].name;
	}
	near = nearest(name, names, n);
	quote(quoted, tag);
	if (near)
		report_error(reports, place, "tag %s: no module \"%s\"; did you mean \"%s%s\"?", quoted, name,
			     near, tag + len);
	else
		report_error(reports, place, "tag %s: no module \"%s\"; add it to modules", quoted, name);
	free(names);
}

static bool check_tag(const struct conf *c, const struct place *place, const char *tag,
		      struct reports *reports)
{
	const char *colon = strchr(tag, ':');
	char quoted[QUOTE_SIZE];

	quote(quoted, tag);
	if (!colon || colon == tag || !colon[1] || strchr(colon + 1, ':') || has_blank(tag))
		report_error(reports, place, "tag %s is not of the form <module>:<action>", quoted);
	else if (strlen(tag) > CHANNEL_MAX_BYTES)
		/* The colon becomes '_': the channel is as long as the tag. */
		report_error(reports, place, "tag %s makes a channel of %zu bytes, at most %d are allowed",
			     quoted, strlen(tag), CHANNEL_MAX_BYTES);
	else if (conf_is_attribute(tag, (size_t)(colon - tag)))
		report_error(reports, place, "tag %s is an attribute of strands and cannot be routed", quoted);
	else if (!conf_receiver(c, tag))
		unknown_module(c, place, tag, reports);
	else
		return true;
	return false;
}

static void check_twice(const struct conf *c, const struct conf_route *route, struct reports *reports)
{
	const struct place place = { route->file, route->line };
	char quoted[QUOTE_SIZE], source[QUOTE_SIZE], where[PLACE_SIZE];

	quote(quoted, route->tag);
	for (const struct conf_route *other = c->routes; other < route; other++) {
		if (!other->tag || !other->source || !channel_is_shared(other->tag, route->tag))
			continue;
		place_text(where, &(struct place){ other->file, other->line });
		if (strcmp(other->tag, route->tag) != 0)
			report_error(reports, &place, "tag %s has the channel of \"%s\" (%s); rename one",
				     quoted, other->tag, where);
		else if (same_name(other->source, route->source))
			report_error(reports, &place, "the route of %s from %s is listed twice (%s)", quoted,
				     quote(source, route->source), where);
		else
			continue;
		return;
	}
}

/* What handles a strand: one of the two. */
static void check_handler(const struct conf_route *route, struct reports *reports)
{
	const struct place place = { route->file, route->line };
	char quoted[QUOTE_SIZE];

	if (!route->handler && !route->command)
		report_error(reports, &place, "route has neither handler, an SQL function, nor command, a program;"
			     " say one");
	else if (route->handler && route->command)
		report_error(reports, &place, "handler %s and command exclude each other; leave one out",
			     quote(quoted, route->handler));
	if (route->handler && route->delivery == DELIVERY_AT_MOST_ONCE)
		report_error(reports, &place, "delivery = \"at-most-once\" is for a command: a handler in SQL takes"
			     " effect exactly once; leave it out");
	if (route->command && route->serial)
		report_error(reports, &place, "serial is for a handler in SQL: processes of other instances would not"
			     " wait for this route's; leave it out");
	if (route->command && !route->command[0])
		report_error(reports, &place, "command is empty; say the program and its arguments");
	for (char **v = route->environment; v && *v; v++)
		if (!strchr(*v, '=') || **v == '=')
			report_error(reports, &place, "process.environment: %s is not of the form NAME=value",
				     quote(quoted, *v));
}

static void check_route(const struct conf *c, const struct conf_route *route, struct reports *reports)
{
	const struct place place = { route->file, route->line };

	check_handler(route, reports);
	if (route->backoff_cap_ms < route->backoff_initial_ms)
		report_error(reports, &place, "backoff.cap is shorter than backoff.initial; raise the cap");
	if (route->tag && check_tag(c, &place, route->tag, reports) && route->source)
		check_twice(c, route, reports);
}

/* --- options ----------------------------------------------------------------- */

const struct place *check_place(const struct conf *c, const char *path)
{
	for (size_t i = 0; i < conf_options.n; i++) {
		if (strcmp(conf_options.options[i].path, path) == 0)
			return &c->places[i];
	}
	return &c->places[0];
}

static void check_options(const struct conf *c, struct reports *reports)
{
	char where[PLACE_SIZE];

	if (c->workers_reserved_for_high >= c->workers_threads)
		report_error(reports, check_place(c, "workers.reserved_for_high"),
			     "workers.reserved_for_high = %d of %d workers.threads leaves none for normal strands;"
			     " at most %d", c->workers_reserved_for_high, c->workers_threads,
			     c->workers_threads - 1);
	if (c->db_password && c->db_password_file)
		report_error(reports, check_place(c, "module_communication.database.password_file"),
			     "password and password_file (%s) exclude each other; leave one out",
			     place_text(where, check_place(c, "module_communication.database.password")));
}

/* So many are told apart where it is told what each does. */
static void check_threads(const struct conf *c, struct reports *reports)
{
	int n = c->workers_threads;

	for (size_t i = 0; i < c->n_routes; i++) {
		const struct conf_route *route = &c->routes[i];
		if (!route->command)
			continue;
		n += route->processes;
		if (n <= CONF_MAX_WORKERS)
			continue;
		report_error(reports, &(struct place){ route->file, route->line }, "workers.threads and all routes'"
			     " processes are more than %d; lower some, or run another instance for these channels",
			     CONF_MAX_WORKERS);
		return;
	}
}

void check_conf(const struct conf *c, struct reports *reports)
{
	check_threads(c, reports);
	check_options(c, reports);
	for (size_t i = 0; i < c->n_modules; i++)
		check_module(c, &c->modules[i], reports);
	for (size_t i = 0; i < c->n_routes; i++)
		check_route(c, &c->routes[i], reports);
}
