/* The command line of strandd.  Main thread. */
#ifndef STRANDD_STRANDD_ARGUMENTS_H
#define STRANDD_STRANDD_ARGUMENTS_H

#include "conf/conf.h"

enum action {
	ACTION_SERVE,
	ACTION_CHECK,	/* --check-config */
	ACTION_PRINT,	/* --print-config */
};

struct arguments {
	enum action action;
	const char *file;	/* borrowed from argv, as are the sets' texts */
	const char **sets;	/* ends with NULL */
	size_t n_sets;
};

/* Parses argv; ends the process on bad arguments and after --help. */
void arguments_parse(struct arguments *a, int argc, char **argv);
void arguments_release(struct arguments *a);

/* Reads the configuration and does what was asked.  *ret_conf is NULL when there is
 * nothing to serve: then the answer is the exit code. */
int arguments_configure(const struct arguments *a, struct conf **ret_conf);

#endif
