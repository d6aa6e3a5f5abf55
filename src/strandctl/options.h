/* Options that every command takes, before or after its name.
 *
 * A command's argp has `options_children` as its children, and its parser
 * passes the `struct ctl` on:
 *     case ARGP_KEY_INIT: state->child_inputs[0] = args->ctl; return 0;
 */
#ifndef STRANDD_STRANDCTL_OPTIONS_H
#define STRANDD_STRANDCTL_OPTIONS_H

#include <argp.h>

#include "strandctl/ctl.h"

/* Keys of options without a short letter: above any character. */
enum { OPTION_FIRST = 0x100, OPTION_GLOBAL = 0x1000 };

extern const struct argp options_argp;
extern const struct argp_child options_children[];

/* --tag, --source and --receiver, of the commands about one route: their argp has
 * `route_children`, and a parser that passes on
 *     state->child_inputs[0] = &args->route; state->child_inputs[1] = args->ctl; */
struct route_options {
	const char *tag, *source, *receiver;	/* NULL: not given */
};

extern const struct argp_child route_children[];

/* The one argument ID, not empty: what a parser returns for keys that it does not know. */
error_t options_id(int key, char *arg, struct argp_state *state, const char **ret_id);

/* Any number of arguments, borrowed from argv. */
struct options_list {
	char **items;
	size_t n;
};

/* What a parser returns for keys that it does not know.  An empty argument is refused:
 * give `what`, "the id of a strand". */
error_t options_list(int key, struct argp_state *state, const char *what, struct options_list *ret_list);

/* Parses a command's arguments; does not return when they are bad (exit code
 * EXIT_USAGE, the reason and usage on standard error) or ask for help. */
void options_parse(const struct argp *argp, int argc, char **argv, void *args);
/* The same, but what stands behind an argument is not looked at before that: an argument
 * that is a program's name can keep its own options. */
void options_parse_in_order(const struct argp *argp, int argc, char **argv, void *args);

/* `text` as a whole number within bounds, or argp_error. */
long options_number(struct argp_state *state, const char *option, const char *text, long least,
		    long most);

/* `text` as a duration with its unit, in milliseconds, or argp_error. */
int64_t options_duration(struct argp_state *state, const char *option, const char *text);

#endif
