/* A retry or discard under way; private to failed_change.c, which does it, and
 * failed_tally.c, which counts before and tells afterwards.
 */
#ifndef STRANDD_STRANDCTL_FAILED_CHANGE_H
#define STRANDD_STRANDCTL_FAILED_CHANGE_H

#include "strandctl/failed.h"
#include "strandctl/progress.h"

struct tally {
	int64_t selected, expired, unknown;	/* before anything was done */
	int64_t changed, again_expired, held, gone;
};

struct change {
	struct failed *f;
	const struct failed_verb *verb;
	struct tally *tallies;		/* of f->routes */
	struct tally sum;		/* of the first line only */
	struct progress bar;
	int64_t seen;
};

/* Fills `selected` and `expired`, and warns of what is detached.  As ctl_query. */
int failed_count(struct change *c, struct err *e) MUST_CHECK;

/* What was done by now, or with --dry-run would be; with --json as JSON too. */
void failed_tell(const struct change *c);

bool failed_changed_some(const struct change *c);

/* Strands that others hold, or that are gone. */
bool failed_left_some(const struct change *c);

#endif
