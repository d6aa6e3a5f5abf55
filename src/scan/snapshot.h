/* A pg_snapshot, "xmin:xmax:xip,xip,...", as the scanner needs it.  Pure.
 * Transactions at or above xmax, or in the list, may still commit unseen. */
#ifndef STRANDD_SCAN_SNAPSHOT_H
#define STRANDD_SCAN_SNAPSHOT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

struct snapshot {
	uint64_t xmin, xmax;
	size_t n;
	uint64_t *xip;		/* ascending */
};

/* STRAND_EINVAL when `text` is no snapshot. */
int snapshot_parse(struct snapshot *ret, const char *text) MUST_CHECK;
void snapshot_release(struct snapshot *s);
bool snapshot_in_progress(const struct snapshot *s, uint64_t xid);	/* in the list */

#endif
