/* strandctl handler-test: one strand before a handler, of which nothing stands. */
#include "strandctl/handler_test.h"

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>

#include "handle/command.h"
#include "handle/json_check.h"
#include "strandctl/handler_limits.h"
#include "work/process_rules.h"

enum { OPTION_ROUTE = OPTION_FIRST, OPTION_SOURCE, OPTION_ATTEMPT, OPTION_TAG, OPTION_TIMEOUT, OPTION_GRACE,
       OPTION_MAX_LINE, OPTION_MAX_REPLIES };

static const struct argp_option options[] = {
	{ "route", OPTION_ROUTE, "TAG", 0, "The configured route whose handler is tested, on a strand of the database", 0 },
	{ "source", OPTION_SOURCE, "TABLE", 0, "The route's source table, where several have the tag; for a command what"
	  " the request says it is", 0 },
	{ "attempt", OPTION_ATTEMPT, "N", 0, "Say that it is this attempt (default 1)", 0 },
	{ "yes", 'y', 0, 0, "Do not ask before a process that is to run at most once", 0 },
	{ "force", 'y', 0, OPTION_ALIAS, 0, 0 },
	{ 0, 0, 0, 0, "For a command:", 1 },
	{ "tag", OPTION_TAG, "TAG", 0, "What the request says (default: the strand's first tag to a module)", 0 },
	{ "timeout", OPTION_TIMEOUT, "DURATION", 0, "process.deadline: 500ms, 30s", 0 },
	{ "grace", OPTION_GRACE, "DURATION", 0, "process.grace: between SIGTERM and SIGKILL", 0 },
	{ "max-line", OPTION_MAX_LINE, "SIZE", 0, "process.max_line: of an answer, 64KiB", 0 },
	{ "max-replies", OPTION_MAX_REPLIES, "N", 0, "process.max_replies", 0 },
	{ 0 },
};

/* As the configuration's option of that name takes it. */
static void set_limit(struct argp_state *state, struct handler_args *args, const char *path, const char *text)
{
	struct err e;

	args->limits = true;
	if (handler_limits_set(&args->process, path, text, &e))
		argp_error(state, "%s", e.text);
}

static error_t parse_limit(int key, char *arg, struct argp_state *state)
{
	struct handler_args *args = state->input;

	switch (key) {
	case OPTION_TIMEOUT:
		set_limit(state, args, "process.deadline", arg);
		return 0;
	case OPTION_GRACE:
		set_limit(state, args, "process.grace", arg);
		return 0;
	case OPTION_MAX_LINE:
		set_limit(state, args, "process.max_line", arg);
		return 0;
	case OPTION_MAX_REPLIES:
		set_limit(state, args, "process.max_replies", arg);
		return 0;
	default:
		return ARGP_ERR_UNKNOWN;
	}
}

/* Of a route one id, of which options may follow; a command keeps all that follows. */
static error_t take_word(char *arg, struct argp_state *state)
{
	struct handler_args *args = state->input;

	if (args->route && args->words.n)
		argp_error(state, "--route %s: give one id, not \"%s\" too", args->route, arg);
	if (!*arg)
		argp_error(state, "an argument is empty: give %s", args->route ? "the id of a strand" : "a program");
	args->words = (struct options_list){ state->argv + state->next - 1, 1 };
	if (args->route)
		return 0;
	args->words.n = (size_t)(state->argc - state->next + 1);
	state->next = state->argc;
	return 0;
}

static void check(struct argp_state *state)
{
	const struct handler_args *args = state->input;

	if (!args->words.n)
		argp_error(state, args->route ? "--route %s: give the id of a strand"
			   : "give a command, or --route TAG and the id of a strand", args->route);
	if (args->route && (args->tag || args->limits))
		argp_error(state, "%s for a command: of a route the configuration says it", args->tag ? "--tag is"
			   : "--timeout, --grace, --max-line and --max-replies are");
}

static error_t parse(int key, char *arg, struct argp_state *state)
{
	struct handler_args *args = state->input;

	switch (key) {
	case ARGP_KEY_INIT:
		state->child_inputs[0] = args->ctl;
		return 0;
	case OPTION_ROUTE:
		args->route = arg;
		return 0;
	case OPTION_SOURCE:
		args->source = arg;
		return 0;
	case OPTION_TAG:
		args->tag = arg;
		return 0;
	case OPTION_ATTEMPT:
		args->attempt = (unsigned)options_number(state, "attempt", arg, 1, 1000000);
		return 0;
	case 'y':
		args->yes = true;
		return 0;
	case ARGP_KEY_ARG:
		return take_word(arg, state);
	case ARGP_KEY_END:
		check(state);
		return 0;
	default:
		return parse_limit(key, arg, state);
	}
}

static const struct argp argp = {
	.options = options,
	.parser = parse,
	.args_doc = "[--] COMMAND [ARGUMENT...]\n--route TAG ID",
	.doc = "Runs a handler on one strand as strandd would, and shows its replies or the error.  A COMMAND is a"
	       " process handler: it gets the strand, a JSON object on standard input, without any database."
	       "  With --route the configured handler of a route, a function or a process, gets a strand of the"
	       " database, in a transaction that is rolled back.  Exit code 6 when the handler fails the strand."
	       "\vWhat a process does outside of the database is real, and not rolled back.",
	.children = options_children,
};

static int refuse_reply(struct handler_verdict *v, const char *sqlstate, const char *text)
{
	err_set(&v->why, STRAND_ESQL, "%s", text);
	memcpy(v->why.sqlstate, sqlstate, sizeof(v->why.sqlstate));
	v->outcome = HANDLER_FAILED;
	v->retry = true;
	return 0;
}

/* What PostgreSQL would refuse of any table's replies. */
static int look_at_replies(struct handler_verdict *v, const struct request *q)
{
	const char *at = q->text, *end = q->text + q->text_len, *reply;
	char text[300];
	struct err why;
	size_t len;

	if (json_check(q->text, q->text_len, &why)) {
		snprintf(text, sizeof(text), "the replies, %.250s", why.text);
		return refuse_reply(v, "22P02", text);
	}
	while (json_element(&at, end, &reply, &len)) {
		if (*reply == '{')
			continue;
		snprintf(text, sizeof(text), "the reply to strand '%.100s' is not a JSON object: %.*s", q->id,
			 (int)(len < 100 ? len : 100), reply);
		return refuse_reply(v, "SR001", text);
	}
	buf_add(&v->replies, q->text, q->text_len);
	return v->replies.failed ? STRAND_ENOMEM : 0;
}

static int ask(const struct handler_args *args, const struct handler_strand *strand, struct handler_verdict *v,
	       struct err *e)
{
	struct child_policy policy = process_policy(&args->process);
	struct request q = { .id = strand->id, .attempt = v->attempt, .row = strand->text.data, .row_len = strand->text.len };
	struct exchange x = { .tag = v->tag, .source = v->source, .n = 1, .requests = &q };
	int ret;

	policy.name = v->tag;
	policy.source = v->source;
	policy.argv = args->words.items;
	ret = handler_process_ask(&policy, &x, args->ctl, &v->ms, e);
	if (ret == STRAND_EHANDLER) {
		v->outcome = HANDLER_FAILED;
		v->why = *e;
		v->becomes = "a route is suspended after three such starts";
		ret = 0;
	} else if (!ret) {
		handler_process_judge(v, &x, false);
		if (v->outcome == HANDLER_REPLIED && look_at_replies(v, &q))
			ret = err_set(e, STRAND_ENOMEM, "out of memory");
	}
	exchange_release(&x);
	return ret;
}

static int run_command(const struct handler_args *args, const struct handler_strand *strand, struct handler_verdict *v,
		       struct err *e)
{
	v->id = strand->id;
	v->tag = args->tag ? args->tag : strand->tag;
	v->source = args->source ? args->source : "stdin";
	if (!v->tag)
		return err_set(e, STRAND_EINVAL, "the strand on standard input bears no tag to a module: say --tag TAG, or"
			       " add \"tags\": [\"dm:evaluate_plan\"]");
	return ask(args, strand, v, e);
}

/* A typing error, and not a handler that fails: told before the strand is waited for. */
static int find_command(const struct handler_args *args, struct err *e)
{
	struct err why;

	if (!command_check(args->words.items[0], AT_FDCWD, getenv("PATH"), &why))
		return 0;
	return err_set(e, STRAND_EINVAL, "command %s; give the path of a program, or a name that is in PATH", why.text);
}

static int run(const struct handler_args *args, struct handler_strand *strand, struct handler_verdict *v, struct err *e)
{
	int ret;

	if (args->route)
		return handler_route_run(args, v, e);
	ret = find_command(args, e);
	if (!ret)
		ret = handler_strand_read(strand, args->ctl, e);
	return ret ? ret : run_command(args, strand, v, e);
}

int command_handler_test(struct ctl *ctl, int argc, char **argv)
{
	struct handler_args args = { .ctl = ctl };
	struct handler_strand strand = { 0 };
	struct handler_verdict v = { 0 };
	struct err e;
	int ret, code;

	if (handler_limits_init(&args.process)) {
		ctl_warn("out of memory");
		return EXIT_FAULT;
	}
	options_parse_in_order(&argp, argc, argv, &args);
	v.attempt = args.attempt ? args.attempt : 1;
	buf_init(&v.replies);
	ret = run(&args, &strand, &v, &e);
	code = ret ? ctl_fail(ctl, &e) : handler_show(ctl, &v);
	buf_release(&v.replies);
	free(v.receipt);
	handler_strand_release(&strand);
	handler_limits_release(&args.process);
	return code;
}
