/* The texts of the statements that handle strands, and of what they share: which
 * strands may be handled, what their replies must be, and their receipts.  Pure;
 * private to src/work.
 */
#ifndef STRANDD_WORK_SETTLE_SQL_H
#define STRANDD_WORK_SETTLE_SQL_H

#include "base/buf.h"
#include "strand/route.h"
#include "work/columns.h"

/* The planner's estimates are wrong on tables that are new or grow fast, and a
 * wrong plan here costs a second a batch: keys are looked up through indexes,
 * whatever the statistics say.  Lifted again before a handler is called. */
#define PINS(pin) \
	pin("plan_cache_mode", "force_generic_plan") "," pin("enable_seqscan", "off") "," \
	pin("enable_bitmapscan", "off") "," pin("enable_hashjoin", "off") "," \
	pin("enable_mergejoin", "off") "," pin("max_parallel_workers_per_gather", "0")
#define PIN_ON(name, value) "pg_catalog.set_config('" name "', '" value "', true)"
#define PIN_OFF(name, value) "pg_catalog.set_config('" name "', NULL, true)"

/* Of a route whose handler is a function: `settle` of struct statements. */
void settle_build(struct buf *b, const struct route *r, const struct columns *cols);

/* Of a route whose handler is a process: `hand_out`, and then `settle`. */
void settle_build_hand_out(struct buf *b, const struct route *r);
void settle_build_answers(struct buf *b, const struct route *r, const struct columns *cols);

#endif
