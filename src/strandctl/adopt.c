/* strandctl adopt: an operator's word that this database, which is not the one that
 * its routes were attached in, may be served. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "strandctl/catalog.h"
#include "strandctl/ctl.h"
#include "strandctl/locked.h"
#include "strandctl/options.h"
#include "strandctl/progress.h"
#include "strandctl/table.h"

#define BATCH "1000"

struct args {
	struct ctl *ctl;
	const char *mode;
};

enum { OPTION_CONTINUE = OPTION_FIRST, OPTION_DELIVER, OPTION_SKIP };

static const struct argp_option options[] = {
	{ "continue", OPTION_CONTINUE, 0, 0,
	  "It is the same system carried on (pg_upgrade): go on as before", 0 },
	{ "deliver", OPTION_DELIVER, 0, 0, "Deliver every strand that has no receipt", 0 },
	{ "skip", OPTION_SKIP, 0, 0, "Deliver no strand that is there now", 0 },
	{ 0 },
};

static error_t choose(struct args *args, const char *mode, struct argp_state *state)
{
	if (args->mode && strcmp(args->mode, mode) != 0)
		argp_error(state, "--%s and --%s exclude each other", args->mode, mode);
	args->mode = mode;
	return 0;
}

static error_t parse(int key, char *arg, struct argp_state *state)
{
	struct args *args = state->input;

	(void)arg;
	switch (key) {
	case ARGP_KEY_INIT:
		state->child_inputs[0] = args->ctl;
		return 0;
	case OPTION_CONTINUE:
		return choose(args, "continue", state);
	case OPTION_DELIVER:
		return choose(args, "deliver", state);
	case OPTION_SKIP:
		return choose(args, "skip", state);
	case ARGP_KEY_END:
		if (!args->mode)
			argp_error(state, "say --continue, --deliver or --skip");
		return 0;
	default:
		return ARGP_ERR_UNKNOWN;
	}
}

static const struct argp argp = {
	.options = options,
	.parser = parse,
	.doc = "Takes over a database whose routes were attached in another one: a restored dump, a"
	       " copy, an upgraded server.  strandd serves none of it until this was said.",
	.children = options_children,
};

static int batch(struct locked *l, const struct module_table *t, const char *mode,
		 long long *ret_done, bool *ret_finished, struct err *e)
{
	const char *values[] = { t->oid, mode };
	PGresult *res;
	int ret = locked_query(l, "adopt", "SELECT done, finished FROM"
			       " strandd.adopt($1::regclass, $2::text, " BATCH ")", 2, values, &res, e);

	if (ret)
		return ret;
	*ret_done = atoll(PQgetvalue(res, 0, 0));
	*ret_finished = *PQgetvalue(res, 0, 1) == 't';
	PQclear(res);
	return 0;
}

static const struct column columns[] = {
	{ "RECEIVER", COLUMN_TEXT, FOR_BOTH },
	{ "MODE", COLUMN_TEXT, FOR_BOTH },
	{ "ROWS", COLUMN_NUMBER, FOR_BOTH },
};

static void tell(const struct ctl *ctl, const struct module_table *t, const char *mode, long long total,
		 struct table *done)
{
	char rows[24];
	const char *values[] = { t->name, mode, rows };

	snprintf(rows, sizeof(rows), "%lld", total);
	ctl_say(ctl, "%s: adopted (%s), %s rows gone through", t->name, mode, rows);
	table_fill(done, values);
}

static int adopt_receiver(struct locked *l, const struct module_table *t, const char *mode,
			  struct table *adopted, struct err *e)
{
	struct locked_wait wait;
	struct progress bar;
	bool finished = false;
	long long done, total = 0;
	char label[160];
	int ret = 0;

	snprintf(label, sizeof(label), "adopting the routes to %s", t->name);
	progress_start(&bar, label, 0);
	locked_wait_start(&wait, l);
	while (!ret && !finished) {
		ret = batch(l, t, mode, &done, &finished, e);
		if (ret || finished)
			break;
		total += done;
		progress_show(&bar, total, total);
		if (done)
			locked_wait_start(&wait, l);
		else
			ret = locked_wait(&wait, l, label, e);
	}
	progress_wipe(&bar);
	if (!ret)
		tell(l->ctl, t, mode, total, adopted);
	return ret;
}

static int adopt_all(struct locked *l, void *arg, struct err *e)
{
	const struct args *args = arg;
	struct table *done = table_new("adopted", true, columns, 3);
	struct catalog c;
	int ret = catalog_load(&c, l->ctl, e);

	for (size_t i = 0; !ret && i < c.n_tables; i++)
		if (c.tables[i].receipts)
			ret = adopt_receiver(l, &c.tables[i], args->mode, done, e);
	if (l->ctl->json)
		table_print(done);
	table_free(done);
	catalog_release(&c);
	return ret;
}

int command_adopt(struct ctl *ctl, int argc, char **argv)
{
	struct args args = { .ctl = ctl };

	options_parse(&argp, argc, argv, &args);
	return locked_command(ctl, adopt_all, &args);
}
