/* strandctl detach: ends a route.  Its receipts stay. */
#include <stdio.h>
#include <string.h>

#include "strandctl/catalog.h"
#include "strandctl/ctl.h"
#include "strandctl/locked.h"
#include "strandctl/options.h"
#include "strandctl/table.h"

struct args {
	struct ctl *ctl;
	const char *tag, *source, *receiver;
};

enum { OPTION_TAG = OPTION_FIRST, OPTION_SOURCE, OPTION_RECEIVER };

static const struct argp_option options[] = {
	{ "tag", OPTION_TAG, "TAG", 0, "The route's tag", 0 },
	{ "source", OPTION_SOURCE, "TABLE", 0, "The route's source table", 0 },
	{ "receiver", OPTION_RECEIVER, "TABLE", 0,
	  "The receiving module's table, where several receive the tag; without it, all", 0 },
	{ 0 },
};

static error_t parse(int key, char *arg, struct argp_state *state)
{
	struct args *args = state->input;

	switch (key) {
	case ARGP_KEY_INIT:
		state->child_inputs[0] = args->ctl;
		return 0;
	case OPTION_TAG:
		args->tag = arg;
		return 0;
	case OPTION_SOURCE:
		args->source = arg;
		return 0;
	case OPTION_RECEIVER:
		args->receiver = arg;
		return 0;
	case ARGP_KEY_END:
		if (!args->tag || !args->source)
			argp_error(state, "give --tag and --source");
		return 0;
	default:
		return ARGP_ERR_UNKNOWN;
	}
}

static const struct argp argp = {
	.options = options,
	.parser = parse,
	.doc = "Detaches a route: its tag is announced no longer and may be taken off a strand.  Receipts"
	       " stay, so that attaching it again delivers nothing twice.",
	.children = options_children,
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

static int detach(struct locked *l, const struct catalog *c, const struct args *args, struct table *done,
		  struct err *e)
{
	const struct module_table *source, *receiver = NULL;
	size_t n = 0;
	int ret = catalog_find(&source, c, l->ctl, args->source, e);

	if (!ret && args->receiver)
		ret = catalog_find(&receiver, c, l->ctl, args->receiver, e);
	for (size_t i = 0; !ret && i < c->n_routes; i++) {
		const struct attachment *a = &c->routes[i];

		if (!a->attached || a->source != source || strcmp(a->tag, args->tag) ||
		    (receiver && a->receiver != receiver))
			continue;
		ret = detach_one(l, a, done, e);
		n++;
	}
	return ret || n ? ret : no_such_route(c, source, receiver, args->tag, e);
}

int command_detach(struct ctl *ctl, int argc, char **argv)
{
	struct args args = { .ctl = ctl };
	struct locked l = { 0 };
	struct catalog c = { 0 };
	struct table *done;
	struct err e;
	int ret;

	options_parse(&argp, argc, argv, &args);
	done = table_new("detached", true, columns, 4);
	ret = ctl_connect_installed(ctl, &e);
	if (!ret)
		ret = locked_start(&l, ctl, &e);
	if (!ret)
		ret = catalog_load(&c, ctl, &e);
	if (!ret)
		ret = detach(&l, &c, &args, done, &e);
	if (ctl->json)
		table_print(done);
	table_free(done);
	catalog_release(&c);
	locked_stop(&l);
	return ret ? ctl_fail(ctl, &e) : EXIT_OK;
}
