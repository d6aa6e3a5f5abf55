/* Writing the history of attached routes: a `skipped` receipt for every row
 * that was there before, in batches, each a transaction of its own.
 * Interrupted at any time it goes on from there the next time.
 */
#ifndef STRANDD_STRANDCTL_HISTORY_H
#define STRANDD_STRANDCTL_HISTORY_H

#include "strandctl/locked.h"

/* Of every attached route whose history is unfinished, with a progress bar. */
int history_finish(struct locked *l, struct err *e) MUST_CHECK;

/* Rows in a table as its statistics have it, for a bar's end; 0 when unknown. */
long long history_estimate(struct ctl *ctl, const char *table_oid);

#endif
