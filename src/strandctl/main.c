/* strandctl: sets strandd's database up and looks into it. */
#include <argp.h>
#include <errno.h>
#include <fcntl.h>
#include <locale.h>
#include <stdio.h>
#include <string.h>

#include "base/nearest.h"
#include "strandctl/ctl.h"
#include "strandctl/options.h"

#define DEFAULT_LOCK_WAIT_MS 60000

typedef int command_fn(struct ctl *ctl, int argc, char **argv);

static const char owner[] = "this wants the role that owns the module tables";
static const char cleaner[] = "this wants the owner's role, or one that may clean up: strandctl init --grant-cleanup ROLE";
static const char service[] = "this wants the owner's role, or that of strandd: strandctl init --grant ROLE";
static const char host[] = "this wants root, or strandd's own user, on its machine";
static const char producer[] = "this wants the owner's role, or that of strandd; with --allow-unrouted and"
			       " without --wait one that may INSERT is enough";

static const struct command {
	const char *name;
	const char *summary;
	command_fn *run;
	const char *wants;
} commands[] = {
	{ "init", "Install strandd's schema, tables and routes, or upgrade them", command_init, owner },
	{ "attach", "Attach a route: a tag on a source table, for a receiving table", command_attach, owner },
	{ "detach", "Detach a route", command_detach, owner },
	{ "uninstall", "Remove what init and attach added", command_uninstall, owner },
	{ "adopt", "Take over a database that was restored, cloned or upgraded", command_adopt, owner },
	{ "cleanup", "Delete old strands that every route is done with", command_cleanup, cleaner },
	{ "publish", "Write strands", command_publish, producer },
	{ "read", "Show one strand and its receipts", command_read, service },
	{ "recent", "Show the newest strands with given tags", command_recent, service },
	{ "trace", "Show the tree of strands that one belongs to", command_trace, service },
	{ "explain", "Tell where a strand stands, and why it does not run", command_explain, service },
	{ "status", "Show the routes and what waits on them", command_status, service },
	{ "doctor", "Examine the server, the database and the way to them", command_doctor, service },
	{ "report", "Write all that a bug report wants, without secrets or strands", command_report, service },
	{ "withdraw", "Take unread strands off their routes", command_withdraw, owner },
	{ "failed", "List, show, retry or discard what failed or expired", command_failed, owner },
	{ "resume", "End the suspension of a route", command_resume, owner },
	{ "handler-test", "Run a handler on one strand, and let nothing of it stand", command_handler_test, service },
	{ "reload", "Tell strandd to read its configuration again, or to replace handlers' processes", command_reload, host },
};

#define N_COMMANDS (sizeof(commands) / sizeof(*commands))

const char *argp_program_version = "strandctl " PACKAGE_VERSION;

struct args {
	struct ctl *ctl;
	int command;	/* index in argv, 0: none */
};

static error_t parse(int key, char *arg, struct argp_state *state)
{
	struct args *args = state->input;

	(void)arg;
	switch (key) {
	case ARGP_KEY_INIT:
		state->child_inputs[0] = args->ctl;
		return 0;
	case ARGP_KEY_ARG:
		/* The rest is the command's. */
		args->command = state->next - 1;
		state->next = state->argc;
		return 0;
	case ARGP_KEY_NO_ARGS:
		argp_error(state, "give a command");
		return EINVAL;
	default:
		return ARGP_ERR_UNKNOWN;
	}
}

static char *help(int key, const char *text, void *input)
{
	char *out = NULL;
	size_t size;
	FILE *f;

	(void)input;
	if (key != ARGP_KEY_HELP_POST_DOC)
		return (char *)text;
	f = open_memstream(&out, &size);
	if (!f)
		return NULL;
	fputs("Commands:\n", f);
	for (size_t i = 0; i < N_COMMANDS; i++)
		fprintf(f, "  %-13s%s\n", commands[i].name, commands[i].summary);
	fputs("\n`strandctl COMMAND --help' tells more about one.", f);
	fclose(f);
	return out;
}

static const struct argp argp = {
	.parser = parse,
	.args_doc = "COMMAND [ARGUMENT...]",
	.doc = "Sets strandd's database up and looks into it.",
	.children = options_children,
	.help_filter = help,
};

static const struct command *find_command(const char *name)
{
	const char *names[N_COMMANDS];
	const char *near;

	for (size_t i = 0; i < N_COMMANDS; i++) {
		names[i] = commands[i].name;
		if (!strcmp(name, names[i]))
			return &commands[i];
	}
	near = nearest(name, names, N_COMMANDS);
	if (near)
		ctl_warn("there is no command \"%s\"; did you mean \"%s\"?", name, near);
	else
		ctl_warn("there is no command \"%s\"; see strandctl --help", name);
	return NULL;
}

/* What is opened next is not to pass for one that the caller has closed: a connection for
 * standard output, say.  To read or write them fails, as it should. */
static void fill_standard_fds(void)
{
	for (int fd = 0; fd <= 2; fd++)
		if (fcntl(fd, F_GETFD) < 0 && open("/dev/null", fd ? O_RDONLY : O_WRONLY) < 0)
			return;
}

/* A full disk or closed pipe must not look like success.  Of an earlier write that
 * failed errno no longer tells why. */
static int close_stdout(int code)
{
	const char *why = fflush(stdout) == 0 ? "" : strerror(errno);

	if (!*why && !ferror(stdout))
		return code;
	ctl_warn("standard output cannot be written%s%s", *why ? ": " : "", why);
	return code ? code : EXIT_FAULT;
}

int main(int argc, char **argv)
{
	struct ctl ctl = {
		.config = SYSCONFDIR "/strandd.conf",
		.lock_wait_ms = DEFAULT_LOCK_WAIT_MS,
		.interrupted = { .fd = -1 },
	};
	struct args args = { .ctl = &ctl };
	const struct command *command;
	struct err e;
	int code;

	fill_standard_fds();
	setlocale(LC_ALL, "");
	argp_err_exit_status = EXIT_USAGE;
	argp_parse(&argp, argc, argv, ARGP_IN_ORDER, NULL, &args);
	command = find_command(argv[args.command]);
	if (!command)
		return EXIT_USAGE;
	ctl.wants = command->wants;
	code = ctl_catch_signals(&ctl, &e) ? ctl_fail(&ctl, &e)
		: command->run(&ctl, argc - args.command, argv + args.command);
	ctl_release(&ctl);
	return close_stdout(code);
}
