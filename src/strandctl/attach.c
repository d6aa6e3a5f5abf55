/* strandctl attach: one route, with everything that its two tables need. */
#include <stdio.h>

#include "strandctl/catalog.h"
#include "strandctl/ctl.h"
#include "strandctl/history.h"
#include "strandctl/locked.h"
#include "strandctl/options.h"
#include "strandctl/table.h"

struct args {
	struct ctl *ctl;
	struct route_options route;
	bool deliver_existing;
};

enum { OPTION_DELIVER = OPTION_FIRST };

static const struct argp_option options[] = {
	{ "deliver-existing", OPTION_DELIVER, 0, 0,
	  "Deliver strands that bear the tag already; without it they are history", 0 },
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
	case OPTION_DELIVER:
		args->deliver_existing = true;
		return 0;
	case ARGP_KEY_END:
		if (!args->route.tag || !args->route.source || !args->route.receiver)
			argp_error(state, "give --tag, --source and --receiver");
		return 0;
	default:
		return ARGP_ERR_UNKNOWN;
	}
}

static const struct argp argp = {
	.options = options,
	.parser = parse,
	.doc = "Attaches a route: strands that are written to the source table with the tag go to the"
	       " module that owns the receiving table.  Adds what the two tables lack.  Safe on tables"
	       " in use, and safe to interrupt and to repeat.",
	.children = route_children,
};

struct tables {
	struct relation source, receiver;
};

static int prepare(struct locked *l, const struct tables *t, struct err *e)
{
	const char *source[] = { t->source.oid }, *receiver[] = { t->receiver.oid };
	char what[200];
	int ret;

	snprintf(what, sizeof(what), "columns and triggers of %s", t->source.name);
	ret = locked_query(l, what, "SELECT strandd.prepare_source($1::regclass)", 1, source, NULL, e);
	if (ret)
		return ret;
	ctl_say(l->ctl, "%s", what);
	snprintf(what, sizeof(what), "indexes of %s", t->source.name);
	ret = locked_gexec(l, what, "SELECT strandd.index_statements($1::regclass)", 1, source, e);
	if (ret)
		return ret;
	ctl_say(l->ctl, "%s", what);
	snprintf(what, sizeof(what), "routes and receipts of %s", t->receiver.name);
	ret = locked_query(l, what, "SELECT strandd.prepare_receiver($1::regclass)", 1, receiver, NULL, e);
	if (!ret)
		ctl_say(l->ctl, "%s", what);
	return ret;
}

static void tell(const struct ctl *ctl, const char *tag, const struct tables *t, const PGresult *res)
{
	static const struct column columns[] = {
		{ "ROUTE", COLUMN_NUMBER, FOR_PROGRAMS },
		{ "TAG", COLUMN_TEXT, FOR_PROGRAMS },
		{ "SOURCE", COLUMN_TEXT, FOR_PROGRAMS },
		{ "RECEIVER", COLUMN_TEXT, FOR_PROGRAMS },
		{ "CHANNEL", COLUMN_TEXT, FOR_PROGRAMS },
	};
	const char *values[] = { PQgetvalue(res, 0, 0), tag, t->source.name, t->receiver.name,
				 PQgetvalue(res, 0, 1) };

	ctl_say(ctl, "route %s: %s from %s to %s, channel %s", values[0], values[1], values[2], values[3],
		values[4]);
	if (ctl->json)
		table_print_one("attached", columns, 5, values);
}

static int attach(struct locked *l, const struct args *args, const struct tables *t, struct err *e)
{
	const char *values[] = { args->route.tag, t->source.oid, t->receiver.oid,
				 args->deliver_existing ? "true" : "false" };
	PGresult *res;
	int ret;

	ret = locked_query(l, "attach",
			   "SELECT r, strandd.channel($1::text) FROM strandd.attach($1::text, $2::regclass,"
			   " $3::regclass, $4::boolean) r", 4, values, &res, e);
	if (ret)
		return ret;
	tell(l->ctl, args->route.tag, t, res);
	PQclear(res);
	return 0;
}

static int run(struct locked *l, void *arg, struct err *e)
{
	const struct args *args = arg;
	struct tables t;
	int ret = relation_find(&t.source, l->ctl, args->route.source, e);

	if (!ret)
		ret = relation_find(&t.receiver, l->ctl, args->route.receiver, e);
	if (!ret)
		ret = prepare(l, &t, e);
	if (!ret)
		ret = attach(l, args, &t, e);
	return ret ? ret : history_finish(l, e);
}

int command_attach(struct ctl *ctl, int argc, char **argv)
{
	struct args args = { .ctl = ctl };

	options_parse(&argp, argc, argv, &args);
	return locked_command(ctl, run, &args);
}
