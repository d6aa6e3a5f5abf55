/* strandctl detach: ends a route.  Its receipts stay. */
#include <string.h>

#include "strandctl/catalog.h"
#include "strandctl/ctl.h"
#include "strandctl/locked.h"
#include "strandctl/options.h"
#include "strandctl/table.h"

struct args {
	struct ctl *ctl;
	struct route_options route;
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
	case ARGP_KEY_END:
		if (!args->route.tag || !args->route.source)
			argp_error(state, "give --tag and --source");
		return 0;
	default:
		return ARGP_ERR_UNKNOWN;
	}
}

static const struct argp argp = {
	.parser = parse,
	.doc = "Detaches a route: its tag is announced no longer and may be taken off a strand.  Receipts"
	       " stay, so that attaching it again delivers nothing twice.  Without --receiver all routes of the"
	       " tag from the source end.",
	.children = route_children,
};

static int no_such_route(const struct catalog *c, const struct module_table *source,
			 const struct module_table *receiver, const char *tag, struct err *e)
{
	const char *near = catalog_near_tag(c, tag, source->oid);

	/* Found without its receiver only. */
	for (size_t i = 0; receiver && i < c->n_routes; i++) {
		const struct attachment *a = &c->routes[i];

		if (a->attached && a->source == source && !strcmp(a->tag, tag))
			return err_set(e, STRAND_ENOENT, "no route %s leads from %s to %s, but one to %s does", tag,
				       source->name, receiver->name, a->receiver->name);
	}
	return err_set(e, STRAND_ENOENT, "no route %s is attached to %s%s%s", tag, source->name,
		       near ? "; did you mean " : "", near ? near : "");
}

static const struct column columns[] = {
	{ "ROUTE", COLUMN_NUMBER, FOR_BOTH },
	{ "TAG", COLUMN_TEXT, FOR_BOTH },
	{ "SOURCE", COLUMN_TEXT, FOR_BOTH },
	{ "RECEIVER", COLUMN_TEXT, FOR_BOTH },
};

static int detach_one(struct locked *l, const struct attachment *a, struct table *done, struct err *e)
{
	const char *shown[] = { a->number, a->tag, a->source->name, a->receiver->name };
	const char *values[] = { a->tag, a->source->oid, a->receiver->oid };
	int ret = locked_query(l, "detach",
			       "SELECT strandd.detach($1::text, $2::regclass, $3::regclass)", 3, values,
			       NULL, e);

	if (ret)
		return ret;
	ctl_say(l->ctl, "detached route %s: %s from %s to %s", shown[0], shown[1], shown[2], shown[3]);
	table_fill(done, shown);
	return 0;
}

static int detach(struct locked *l, const struct catalog *c, const struct route_options *route,
		  struct table *done, struct err *e)
{
	const struct module_table *source, *receiver = NULL;
	size_t n = 0;
	int ret = catalog_find(&source, c, l->ctl, route->source, e);

	if (!ret && route->receiver)
		ret = catalog_find(&receiver, c, l->ctl, route->receiver, e);
	for (size_t i = 0; !ret && i < c->n_routes; i++) {
		const struct attachment *a = &c->routes[i];

		if (!a->attached || a->source != source || strcmp(a->tag, route->tag) ||
		    (receiver && a->receiver != receiver))
			continue;
		ret = detach_one(l, a, done, e);
		n++;
	}
	return ret || n ? ret : no_such_route(c, source, receiver, route->tag, e);
}

static int run(struct locked *l, void *args, struct err *e)
{
	const struct args *a = args;
	struct table *done = table_new("detached", true, columns, 4);
	struct catalog c;
	int ret = catalog_load(&c, l->ctl, e);

	if (!ret)
		ret = detach(l, &c, &a->route, done, e);
	if (l->ctl->json)
		table_print(done);
	table_free(done);
	catalog_release(&c);
	return ret;
}

int command_detach(struct ctl *ctl, int argc, char **argv)
{
	struct args args = { .ctl = ctl };

	options_parse(&argp, argc, argv, &args);
	return locked_command(ctl, run, &args);
}
