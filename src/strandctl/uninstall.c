/* strandctl uninstall: takes everything out that init and attach put in. */
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "strandctl/ask.h"
#include "strandctl/ctl.h"
#include "strandctl/locked.h"
#include "strandctl/options.h"
#include "strandctl/steps.h"
#include "strandctl/table.h"

struct args {
	struct ctl *ctl;
	bool yes;
};

static const struct argp_option options[] = {
	{ "yes", 'y', 0, 0, "Do not ask", 0 },
	{ 0 },
};

static error_t parse(int key, char *arg, struct argp_state *state)
{
	struct args *args = state->input;

	(void)arg;
	switch (key) {
	case ARGP_KEY_INIT:
		state->child_inputs[0] = args->ctl;
		return 0;
	case 'y':
		args->yes = true;
		return 0;
	default:
		return ARGP_ERR_UNKNOWN;
	}
}

static const struct argp argp = {
	.options = options,
	.parser = parse,
	.doc = "Removes routes, receipts, added columns, indexes and functions, and leaves the module"
	       " tables, with all their strands, as the specification has them.  What was delivered is"
	       " then no longer known: stop strandd first.",
	.children = options_children,
};

static int ask(struct ctl *ctl, struct err *e)
{
	const char *db = PQdb(conn_pg(ctl->conn));
	char answer[80];
	int ret;

	if (!isatty(STDIN_FILENO))
		return err_set(e, STRAND_EINVAL, "uninstall removes every receipt: say --yes");
	fprintf(stderr, "Remove strandd's routes and receipts from database \"%s\"? The strands stay."
		" Type yes: ", db);
	ret = ask_line(ctl, answer, sizeof(answer), e);
	if (!ret && strcmp(answer, "yes") != 0)
		ret = err_set(e, STRAND_EINVAL, "nothing was changed");
	return ret;
}

static void tell(const struct ctl *ctl, const char *db)
{
	static const struct column columns[] = { { "DATABASE", COLUMN_TEXT, FOR_PROGRAMS } };

	ctl_say(ctl, "strandd is removed from database \"%s\"", db);
	if (ctl->json)
		table_print_one("uninstalled", columns, 1, &db);
}

int command_uninstall(struct ctl *ctl, int argc, char **argv)
{
	struct args args = { .ctl = ctl };
	struct locked l = { 0 };
	struct err e;
	int ret;

	options_parse(&argp, argc, argv, &args);
	/* Not "is it installed": an interrupted uninstall can be repeated. */
	ret = ctl_connect(ctl, 0, &e);
	if (!ret)
		ret = ctl_refuse_newer(ctl, &e);
	if (!ret && !args.yes)
		ret = ask(ctl, &e);
	if (!ret)
		ret = locked_start(&l, ctl, &e);
	if (!ret)
		ret = steps_run_file("90_uninstall.sql", &l, &e);
	locked_stop(&l);
	if (ret)
		return ctl_fail(ctl, &e);
	tell(ctl, PQdb(conn_pg(ctl->conn)));
	return EXIT_OK;
}
