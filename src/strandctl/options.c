#include "strandctl/options.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "conf/unit.h"

enum { OPTION_LOCK_WAIT = OPTION_GLOBAL, OPTION_ROUTE_TAG, OPTION_SOURCE, OPTION_RECEIVER };

static const struct argp_option global_options[] = {
	{ 0, 0, 0, 0, "Common options:", 10 },
	{ "config", 'c', "FILE", 0, "Configuration file (default " SYSCONFDIR "/strandd.conf)", 0 },
	{ "dbname", 'd', "CONNINFO", 0,
	  "Database: a name, or a whole connection string that replaces the configured one", 0 },
	{ "json", 'j', 0, 0, "Print JSON", 0 },
	{ "lock-wait", OPTION_LOCK_WAIT, "SECONDS", 0,
	  "Where tables are changed: give up when other sessions hold locks this long (default 60)", 0 },
	{ 0 },
};

long options_number(struct argp_state *state, const char *option, const char *text, long least,
		    long most)
{
	char *end;
	long n;

	errno = 0;
	n = strtol(text, &end, 10);
	if (errno || end == text || *end || n < least || n > most)
		argp_error(state, "--%s %s: give a whole number from %ld to %ld", option, text, least,
			   most);
	return n;
}

int64_t options_duration(struct argp_state *state, const char *option, const char *text)
{
	int64_t ms = 0;

	if (duration_parse(text, &ms) != UNIT_OK || ms < 0)
		argp_error(state, "--%s %s: give a duration with its unit, such as 90s, 30min, 12h or 7d (units: "
			   DURATION_UNITS ")", option, text);
	return ms;
}

static error_t parse_global(int key, char *arg, struct argp_state *state)
{
	struct ctl *ctl = state->input;

	switch (key) {
	case 'c':
		ctl->config = arg;
		ctl->config_given = true;
		return 0;
	case 'd':
		ctl->dbname = arg;
		return 0;
	case 'j':
		ctl->json = true;
		return 0;
	case OPTION_LOCK_WAIT:
		ctl->lock_wait_ms = options_number(state, "lock-wait", arg, 0, 86400) * 1000;
		return 0;
	default:
		return ARGP_ERR_UNKNOWN;
	}
}

const struct argp options_argp = { global_options, parse_global, 0, 0, 0, 0, 0 };

const struct argp_child options_children[] = {
	{ &options_argp, 0, NULL, 10 },
	{ 0 },
};

static const struct argp_option route_options[] = {
	{ "tag", OPTION_ROUTE_TAG, "TAG", 0, "The route's tag, <module>:<action>", 0 },
	{ "source", OPTION_SOURCE, "TABLE", 0, "Where strands with it are written", 0 },
	{ "receiver", OPTION_RECEIVER, "TABLE", 0, "The receiving module's table", 0 },
	{ 0 },
};

static error_t parse_route(int key, char *arg, struct argp_state *state)
{
	struct route_options *route = state->input;

	switch (key) {
	case OPTION_ROUTE_TAG:
		route->tag = arg;
		return 0;
	case OPTION_SOURCE:
		route->source = arg;
		return 0;
	case OPTION_RECEIVER:
		route->receiver = arg;
		return 0;
	default:
		return ARGP_ERR_UNKNOWN;
	}
}

static const struct argp route_argp = { route_options, parse_route, 0, 0, 0, 0, 0 };

const struct argp_child route_children[] = {
	{ &route_argp, 0, NULL, 0 },
	{ &options_argp, 0, NULL, 10 },
	{ 0 },
};

/* A script's variable that was never set. */
static void refuse_empty(struct argp_state *state, const char *arg, const char *what)
{
	if (!*arg)
		argp_error(state, "an argument is empty: give %s", what);
}

error_t options_id(int key, char *arg, struct argp_state *state, const char **ret_id)
{
	switch (key) {
	case ARGP_KEY_ARG:
		if (*ret_id)
			argp_error(state, "give one id");
		refuse_empty(state, arg, "the id of a strand");
		*ret_id = arg;
		return 0;
	case ARGP_KEY_NO_ARGS:
		argp_error(state, "give the id of a strand");
		return 0;
	default:
		return ARGP_ERR_UNKNOWN;
	}
}

error_t options_list(int key, struct argp_state *state, const char *what, struct options_list *ret_list)
{
	switch (key) {
	case ARGP_KEY_ARGS:
		ret_list->items = state->argv + state->next;
		ret_list->n = (size_t)(state->argc - state->next);
		for (size_t i = 0; i < ret_list->n; i++)
			refuse_empty(state, ret_list->items[i], what);
		return 0;
	default:
		return ARGP_ERR_UNKNOWN;
	}
}

static void parse_words(const struct argp *argp, int argc, char **argv, unsigned flags, void *args)
{
	char name[64], *given = argv[0];

	/* What usage and errors begin with. */
	snprintf(name, sizeof(name), "strandctl %s", given);
	argv[0] = name;
	argp_parse(argp, argc, argv, flags, NULL, args);
	argv[0] = given;
}

void options_parse(const struct argp *argp, int argc, char **argv, void *args)
{
	parse_words(argp, argc, argv, 0, args);
}

void options_parse_in_order(const struct argp *argp, int argc, char **argv, void *args)
{
	parse_words(argp, argc, argv, ARGP_IN_ORDER, args);
}
