/* One thread's trouble to reach a server: how long to wait before the next
 * attempt, and what the log is told.  Belongs to its thread; all zero at first.
 */
#ifndef STRANDD_BASE_OUTAGE_H
#define STRANDD_BASE_OUTAGE_H

#include <stdint.h>

#include "base/err.h"

struct outage {
	unsigned failures;	/* in a row */
	int64_t tell_at;	/* clock_now() based: say it again */
	char told[512];
};

/* Another attempt failed.  A reason is logged when it is new, and again once a
 * minute while it lasts: a server that comes up and then refuses the password
 * must not look as if it were still down.  `what_now` ends the line.  Returns
 * the milliseconds to wait. */
int64_t outage_failed(struct outage *o, const struct err *e, const char *what_now);

/* An attempt succeeded; logs `text` when one had failed before. */
void outage_over(struct outage *o, const char *text);

#endif
