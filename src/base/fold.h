/* Repetitions of log lines: the first of a minute are written, the others counted,
 * and told in one line when the minute, or the process, ends.
 *
 * One table for the process, of fixed size.  fold_admit and fold_renew: any thread,
 * without locks; fold_sweep: the log's own thread, or, when there is none any more,
 * who stops the log.  Times are clock_now() based.
 */
#ifndef STRANDD_BASE_FOLD_H
#define STRANDD_BASE_FOLD_H

#include <stdbool.h>
#include <stdint.h>

#include "base/log_record.h"

#define FOLD_FIRST 10		/* of each kind are written in one window */
#define FOLD_WINDOW_MS 60000
#define FOLD_KINDS 512		/* told apart at once; what is beyond shares one row */
#define FOLD_RENEWALS 9		/* in one window */

/* Which records are alike: a number for r->fold, its text and fields, and `fmt`. */
uint64_t fold_key(const struct log_record *r, const char *fmt);

/* Is the record, whose key is set, to be written?  If not, it is taken. */
bool fold_admit(struct log_record *r, int64_t now);

/* What was told once (LOG_FOLD_ONCE) is over: if it happens again, it is told again,
 * but not for ever in one window. */
void fold_renew(uint64_t key);

/* Calls `tell` with a record that it owns, and that stands for `more` others, for
 * each kind whose window is over; all of them if `end`.  Returns whether there is
 * anything left to sweep. */
typedef void fold_fn(struct log_record *like, uint64_t more, int64_t seconds);
bool fold_sweep(int64_t now, bool end, fold_fn *tell);

#endif
