/* strandctl resume: ends the suspension of routes whose handler is mended. */
#include <string.h>

#include "strandctl/catalog.h"
#include "strandctl/ctl.h"
#include "strandctl/options.h"
#include "strandctl/strands.h"
#include "strandctl/table.h"

struct args {
	struct ctl *ctl;
	struct route_options route;
	struct options_list tags;
	bool all;
};

static const struct argp_option options[] = {
	{ "all", 'a', 0, 0, "Every route that is suspended", 0 },
	{ 0 },
};

static error_t parse(int key, char *arg, struct argp_state *state)
{
	struct args *args = state->input;

	(void)arg;
	switch (key) {
	case ARGP_KEY_INIT:
		state->child_inputs[0] = &args->route;
		state->child_inputs[1] = args->ctl;
		return 0;
	case 'a':
		args->all = true;
		return 0;
	case ARGP_KEY_END:
		if (!args->all && !args->tags.n && !args->route.tag)
			argp_error(state, "give the tag of a route, or --all");
		if (args->all && (args->tags.n || args->route.tag))
			argp_error(state, "--all takes no tag");
		return 0;
	default:
		return options_list(key, state, "the tag of a route", &args->tags);
	}
}

static const struct argp argp = {
	.options = options,
	.parser = parse,
	.args_doc = "[TAG...]",
	.doc = "Ends the suspension of routes, and tells every strandd at once.  What waits on them is then"
	       " delivered; a handler that is still broken suspends its route again.",
	.children = route_children,
};

enum { AT_TAG, AT_SOURCE, AT_RECEIVER, AT_WAS, AT_SINCE, AT_ERROR, N_COLUMNS };

static const struct column columns[N_COLUMNS] = {
	[AT_TAG] = { "TAG", COLUMN_TEXT, FOR_PROGRAMS },
	[AT_SOURCE] = { "SOURCE", COLUMN_TEXT, FOR_PROGRAMS },
	[AT_RECEIVER] = { "RECEIVER", COLUMN_TEXT, FOR_PROGRAMS },
	[AT_WAS] = { "WAS SUSPENDED", COLUMN_BOOLEAN, FOR_PROGRAMS },
	[AT_SINCE] = { "SUSPENDED AT", COLUMN_TEXT, FOR_PROGRAMS },
	[AT_ERROR] = { "ERROR", COLUMN_TEXT, FOR_PROGRAMS },
};

static int resume(struct ctl *ctl, const struct attachment *a, struct table *done, struct err *e)
{
	const char *values[] = { a->receiver->oid, a->number };
	const char *shown[N_COLUMNS] = { a->tag, a->source->name, a->receiver->name };
	bool was;
	PGresult *res;
	int ret = ctl_query(ctl, "SELECT strandd.resume($1::oid::regclass, $2::integer)", 2, values, &res, e);

	if (ret)
		return ret;
	was = *PQgetvalue(res, 0, 0) == 't';
	shown[AT_WAS] = was ? "t" : "f";
	shown[AT_SINCE] = a->suspended_at;
	shown[AT_ERROR] = a->suspended_error;
	table_fill(done, shown);
	if (was && a->suspended_at)
		ctl_say(ctl, "%s from %s to %s: resumed; suspended since %s: %s", a->tag, a->source->name,
			a->receiver->name, a->suspended_at, a->suspended_error ? a->suspended_error : "");
	else
		ctl_say(ctl, "%s from %s to %s: %s", a->tag, a->source->name, a->receiver->name,
			was ? "resumed" : "is not suspended");
	PQclear(res);
	return 0;
}

static bool named(const struct args *args, const struct attachment *a)
{
	if (args->all)
		return a->suspended_at;
	if (args->route.tag && !strcmp(args->route.tag, a->tag))
		return true;
	for (size_t i = 0; i < args->tags.n; i++)
		if (!strcmp(args->tags.items[i], a->tag))
			return true;
	return false;
}

/* All tags are looked at before any route is resumed. */
static int check_tags(const struct args *args, const struct catalog *c, const struct module_table *source,
		      struct err *e)
{
	int ret = args->route.tag ? catalog_check_tag(c, args->route.tag, source, e) : 0;

	for (size_t i = 0; !ret && i < args->tags.n; i++)
		ret = catalog_check_tag(c, args->tags.items[i], source, e);
	return ret;
}

static int run(const struct args *args, struct catalog *c, struct table *done, struct err *e)
{
	const struct module_table *source = NULL, *receiver = NULL;
	size_t n = 0;
	int ret = strands_start(args->ctl, c, e);

	if (!ret && args->route.source)
		ret = catalog_find(&source, c, args->ctl, args->route.source, e);
	if (!ret && args->route.receiver)
		ret = catalog_find(&receiver, c, args->ctl, args->route.receiver, e);
	if (!ret)
		ret = check_tags(args, c, source, e);
	for (size_t i = 0; !ret && i < c->n_routes; i++) {
		const struct attachment *a = &c->routes[i];

		if (!a->attached || !named(args, a) || (source && a->source != source) ||
		    (receiver && a->receiver != receiver))
			continue;
		ret = resume(args->ctl, a, done, e);
		n++;
	}
	if (ret || n)
		return ret;
	if (!args->all)
		return err_set(e, STRAND_ENOENT, "no such route is attached; see strandctl status");
	ctl_say(args->ctl, "no route is suspended");
	return 0;
}

int command_resume(struct ctl *ctl, int argc, char **argv)
{
	struct args args = { .ctl = ctl };
	struct table *done;
	struct catalog c = { 0 };
	struct err e;
	int ret;

	options_parse(&argp, argc, argv, &args);
	done = table_new("resumed", true, columns, N_COLUMNS);
	ret = run(&args, &c, done, &e);
	if (ctl->json)
		table_print(done);
	table_free(done);
	catalog_release(&c);
	return ret ? ctl_fail(ctl, &e) : EXIT_OK;
}
