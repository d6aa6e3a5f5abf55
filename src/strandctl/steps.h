/* The steps of an SQL file, and running them.
 *
 * A step begins with a line `-- step: title`.  Its statements go to the server
 * in one message, which is one transaction.  A step that ends with a line
 * `\gexec` is a query whose cells are statements, run one by one, each outside
 * a transaction.
 */
#ifndef STRANDD_STRANDCTL_STEPS_H
#define STRANDD_STRANDCTL_STEPS_H

#include <stdbool.h>

#include "strandctl/locked.h"

struct step {
	char *title;
	char *sql;	/* without the \gexec line */
	bool gexec;
};

/* The next step of the text at *cursor, which moves on.  1: got one (release
 * it); 0: no more; STRAND_ENOMEM. */
int step_next(struct step *ret_step, const char **cursor) MUST_CHECK;
void step_release(struct step *s);

/* Runs one, with retries; steps are safe to repeat. */
int step_run(const struct step *s, struct locked *l, struct err *e) MUST_CHECK;

/* Runs all steps of the embedded file `name`, and says so in one line. */
int steps_run_file(const char *name, struct locked *l, struct err *e) MUST_CHECK;

#endif
