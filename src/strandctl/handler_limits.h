/* A command's limits: those of a configured process, from arguments.  Apart from the rest
 * because <argp.h> has a `struct option` of its own.
 */
#ifndef STRANDD_STRANDCTL_HANDLER_LIMITS_H
#define STRANDD_STRANDCTL_HANDLER_LIMITS_H

#include "conf/conf.h"

/* The configuration's defaults; STRAND_ENOMEM. */
int handler_limits_init(struct conf_route *process) MUST_CHECK;
void handler_limits_release(struct conf_route *process);

/* `text` for "process.deadline", say, as the configuration takes it; STRAND_EINVAL, *e
 * says what is wrong with it. */
int handler_limits_set(struct conf_route *process, const char *path, const char *text, struct err *e) MUST_CHECK;

#endif
