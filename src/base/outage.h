/* One thread's trouble to reach a server, or to get anywhere on a route: how long to
 * wait before the next attempt, and what the log is told.  Belongs to its thread; all
 * zero at first.
 *
 * However many threads meet the same outage, and however often they try, the log is
 * told each reason once, once a minute how often it was met since, and once that it
 * is over (LOG_FOLD_ONCE in log.h).
 */
#ifndef STRANDD_BASE_OUTAGE_H
#define STRANDD_BASE_OUTAGE_H

#include <stdint.h>

#include "base/err.h"
#include "base/log.h"

enum { OUTAGE_REASONS = 4 };

struct outage {
	unsigned failures;	/* in a row */
	uint64_t told[OUTAGE_REASONS];	/* the last ones: lost, refused, starting up */
	uint64_t over;		/* what the end of the last one was */
};

/* Another attempt failed.  `what_now` ends the line.  Returns the milliseconds to
 * wait. */
int64_t outage_failed(struct outage *o, const struct err *e, const char *what_now);

/* The same with the fields of a route or strand; the SQLSTATE is the error's. */
int64_t outage_failed_on(struct outage *o, const struct log_fields *fields, const struct err *e,
			 const char *what_now);

/* An attempt succeeded; logs `text` when one had failed before. */
void outage_over(struct outage *o, const char *text);
void outage_over_on(struct outage *o, const struct log_fields *fields, const char *text);

#endif
