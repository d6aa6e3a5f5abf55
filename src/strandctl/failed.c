/* strandctl failed: what no handler could settle, and what is to become of it. */
#include "strandctl/failed.h"

#include <ctype.h>
#include <string.h>

#include "base/nearest.h"
#include "strandctl/ctl.h"

enum { OPTION_TAG = OPTION_FIRST, OPTION_OLDER, OPTION_NEWER, OPTION_ERROR, OPTION_SQLSTATE, OPTION_STATE,
       OPTION_DRY_RUN, OPTION_FORCE };

static const struct argp_option options[] = {
	{ 0, 0, 0, 0, "Which ones (all that are given must hold):", 1 },
	{ "tag", OPTION_TAG, "TAG", 0, "On routes with this tag", 0 },
	{ "table", 't', "TABLE", 0, "Strands of this table (--source is the same)", 0 },
	{ "source", 't', "TABLE", OPTION_ALIAS, 0, 0 },
	{ "older", OPTION_OLDER, "DURATION", 0, "That failed longer ago: 90s, 30min, 12h, 7d", 0 },
	{ "newer", OPTION_NEWER, "DURATION", 0, "That failed since", 0 },
	{ "error", OPTION_ERROR, "TEXT", 0, "Whose error holds this text, in capitals or not", 0 },
	{ "sqlstate", OPTION_SQLSTATE, "CODE", 0, "With this SQLSTATE, or two characters: its class", 0 },
	{ "state", OPTION_STATE, "STATE", 0, "`failed' or `expired'; without it both", 0 },
	{ "limit", 'n', "N", 0, "The newest N (list: 50 by default)", 0 },
	{ 0, 0, 0, 0, "retry and discard:", 2 },
	{ "dry-run", OPTION_DRY_RUN, 0, 0, "Count them, show some, and do nothing", 0 },
	{ "yes", 'y', 0, 0, "Do not ask", 0 },
	{ "force", OPTION_FORCE, 0, 0, "retry: also those of which nobody knows what their handler did", 0 },
	{ 0 },
};

/* PostgreSQL's are five characters, and so is a class's first part. */
static void check_sqlstate(struct argp_state *state, const char *text)
{
	size_t n = strlen(text);

	for (size_t i = 0; i < n; i++)
		if (!isdigit((unsigned char)text[i]) && !isupper((unsigned char)text[i]))
			n = 0;
	if (n != 5 && n != 2)
		argp_error(state, "--sqlstate %s: give five digits or capitals, or the two of a class", text);
}

static error_t parse_which(int key, char *arg, struct argp_state *state)
{
	struct failed_args *args = state->input;

	switch (key) {
	case OPTION_TAG:
		args->tag = arg;
		return 0;
	case 't':
		args->table = arg;
		return 0;
	case OPTION_OLDER:
		args->older_ms = options_duration(state, "older", arg);
		return 0;
	case OPTION_NEWER:
		args->newer_ms = options_duration(state, "newer", arg);
		return 0;
	case OPTION_ERROR:
		args->error = arg;
		return 0;
	case OPTION_SQLSTATE:
		check_sqlstate(state, arg);
		args->sqlstate = arg;
		return 0;
	case OPTION_STATE:
		if (strcmp(arg, "failed") != 0 && strcmp(arg, "expired") != 0)
			argp_error(state, "--state %s: `failed' or `expired'", arg);
		args->state = arg;
		return 0;
	case 'n':
		args->limit = options_number(state, "limit", arg, 1, 1000000000);
		return 0;
	default:
		return ARGP_ERR_UNKNOWN;
	}
}

static error_t parse(int key, char *arg, struct argp_state *state)
{
	struct failed_args *args = state->input;

	switch (key) {
	case ARGP_KEY_INIT:
		state->child_inputs[0] = args->ctl;
		return 0;
	case OPTION_DRY_RUN:
		args->dry_run = true;
		return 0;
	case 'y':
		args->yes = true;
		return 0;
	case OPTION_FORCE:
		args->force = true;
		return 0;
	case ARGP_KEY_NO_ARGS:
		argp_error(state, "give `list', `show', `retry' or `discard'");
		return 0;
	case ARGP_KEY_ARGS:
		return options_list(key, state, "the id of a strand", &args->words);
	default:
		return parse_which(key, arg, state);
	}
}

static const struct argp argp = {
	.options = options,
	.parser = parse,
	.args_doc = "list [ID...]\nshow ID...\nretry [ID...]\ndiscard [ID...]",
	.doc = "Strands that are failed (out of attempts) or expired.  `list' shows the newest first, `show' one"
	       " with its whole error and its row.  `retry' puts them back before their handler, with the"
	       " route's full number of attempts; `discard' gives them up: they are never delivered.  Without"
	       " ids both count first, and ask on a terminal; elsewhere they want --yes.",
	.children = options_children,
};

static int list(struct failed *f, int *ret_code, struct err *e)
{
	int64_t limit = f->args->limit == FAILED_ALL ? FAILED_DEFAULT_LIMIT : f->args->limit;
	size_t missed;
	int ret = failed_check_ids(f, &missed, e);

	if (!ret)
		*ret_code = missed ? EXIT_FAULT : EXIT_OK;
	return ret ? ret : failed_list(f, limit, e);
}

static int show(struct failed *f, int *ret_code, struct err *e)
{
	size_t missed;
	int ret = failed_check_ids(f, &missed, e);

	if (!ret)
		*ret_code = missed ? EXIT_FAULT : EXIT_OK;
	return ret ? ret : failed_show(f, e);
}

static int retry(struct failed *f, int *ret_code, struct err *e)
{
	return failed_change(f, &failed_retry, ret_code, e);
}

static int discard(struct failed *f, int *ret_code, struct err *e)
{
	return failed_change(f, &failed_discard, ret_code, e);
}

typedef int verb_fn(struct failed *f, int *ret_code, struct err *e);

static const struct verb {
	const char *name;
	verb_fn *run;
	bool wants_ids, changes;
} verbs[] = {
	{ "list", list, false, false },
	{ "show", show, true, false },
	{ "retry", retry, false, true },
	{ "discard", discard, false, true },
};

#define N_VERBS (sizeof(verbs) / sizeof(*verbs))

static const struct verb *find_verb(const struct failed_args *args)
{
	const char *names[N_VERBS], *given = args->words.items[0], *near;

	for (size_t i = 0; i < N_VERBS; i++) {
		names[i] = verbs[i].name;
		if (strcmp(given, names[i]) != 0)
			continue;
		if (verbs[i].wants_ids && !args->ids.n)
			ctl_warn("failed %s: give the id of a strand", given);
		else if (!verbs[i].changes && (args->dry_run || args->yes))
			ctl_warn("failed %s changes nothing: %s is for retry and discard", given,
				 args->dry_run ? "--dry-run" : "--yes");
		else
			return &verbs[i];
		return NULL;
	}
	near = nearest(given, names, N_VERBS);
	ctl_warn("failed %s: there are list, show, retry and discard%s%s%s", given, near ? "; did you mean " : "",
		 near ? near : "", near ? "?" : "");
	return NULL;
}

int command_failed(struct ctl *ctl, int argc, char **argv)
{
	struct failed_args args = { .ctl = ctl, .older_ms = FAILED_AGE_ANY, .newer_ms = FAILED_AGE_ANY,
				    .limit = FAILED_ALL };
	const struct verb *verb;
	struct failed f = { 0 };
	struct err e;
	int ret, code = EXIT_OK;

	options_parse(&argp, argc, argv, &args);
	args.ids = (struct options_list){ args.words.items + 1, args.words.n - 1 };
	verb = find_verb(&args);
	if (!verb)
		return EXIT_USAGE;
	ret = failed_start(&f, &args, &e);
	if (!ret)
		ret = verb->run(&f, &code, &e);
	failed_release(&f);
	return ret ? ctl_fail(ctl, &e) : code;
}
