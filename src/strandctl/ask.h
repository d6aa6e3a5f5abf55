/* Questions on the terminal. */
#ifndef STRANDD_STRANDCTL_ASK_H
#define STRANDD_STRANDCTL_ASK_H

#include <stddef.h>

#include "strandctl/ctl.h"

/* One line from standard input without its newline, "" at its end; an interrupt
 * ends the wait with STRAND_ESTOPPED. */
int ask_line(struct ctl *ctl, char *out, size_t size, struct err *e) MUST_CHECK;

/* Asks `question` [y/N] on standard error; STRAND_EINVAL, "nothing was changed", unless
 * the answer begins with y. */
int ask_yes(struct ctl *ctl, const char *question, struct err *e) MUST_CHECK;

#endif
