/* The parts of `strandctl report`: each prints lines for people or, with --json, one
 * JSON value.  The main thread's.
 */
#ifndef STRANDD_STRANDCTL_REPORT_H
#define STRANDD_STRANDCTL_REPORT_H

#include "strandctl/catalog.h"

struct report {
	struct ctl *ctl;
	struct catalog catalog;
	bool printed;		/* the part that failed has printed its value all the same */
};

typedef int report_part(struct report *r, struct err *e);

report_part report_versions, report_configuration, report_failures;

/* Takes out of the configuration what may be a secret and is none of its settings':
 * arguments of commands, values of their environment. */
int report_redact(struct conf *c) MUST_CHECK;

#endif
