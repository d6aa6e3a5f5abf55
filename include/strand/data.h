/* Strands as they are read, and rows as they are written.
 *
 * Both are JSON text: a strand is the row of its table as PostgreSQL's to_jsonb writes
 * it, a row to be written is an object whose keys are columns.  Numbers are never
 * turned into binary ones, so 64-bit integers and decimals of any length survive.
 *
 * Threads: an object belongs to one thread at a time, also where a function takes it
 * as const (what a strand was asked for is remembered in it).
 */
#ifndef STRAND_DATA_H
#define STRAND_DATA_H

#include <stddef.h>
#include <stdint.h>

#include <strand/error.h>

#ifdef __cplusplus
extern "C" {
#endif

/* --- a strand that was read ---
 *
 * It belongs to what handed it out, and lives as long as that says: a handler's until
 * the handler returns, a listener's until the next call, one of a set until the set is
 * freed.  All texts below are borrowed from it and live as long; they end with NUL and
 * are UTF-8. */
struct strand;

const char *strand_id(const struct strand *s);

/* The tag by which it came, "dm:evaluate_plan"; NULL for one that a client read. */
const char *strand_tag(const struct strand *s);

/* The table that it is in, as whoever named it wrote it: "ad_strands". */
const char *strand_source(const struct strand *s);

/* 1 for the first attempt to handle it, 2 for the next...; 0 where there are no
 * attempts: outside a handler. */
int strand_attempt(const struct strand *s);

/* Milliseconds until strandd gives up waiting for this handler, at least 0; -1 outside
 * a handler. */
int64_t strand_deadline_ms(const struct strand *s);

/* The whole row: a JSON object. */
const char *strand_json(const struct strand *s);

/* A column's value as text: of a JSON string what it says, of anything else its JSON
 * text (a number with all its digits, true, an object).  NULL where the column is null
 * or there is none, and when memory is short. */
const char *strand_column(const struct strand *s, const char *column);

/* A column's value as JSON text, a string with its quotes, null as "null"; NULL where
 * there is no such column, and when memory is short. */
const char *strand_column_json(const struct strand *s, const char *column);

/* 1 if `tag` is an element of the strand's tags, else 0. */
int strand_has_tag(const struct strand *s, const char *tag);

/* --- strands that a client read --- */
struct strand_set;

size_t strand_set_size(const struct strand_set *set);

/* The i-th strand, from 0; borrowed from the set.  NULL beyond the last one. */
const struct strand *strand_set_get(const struct strand_set *set, size_t i);

void strand_set_free(struct strand_set *set);		/* takes NULL */

/* --- a row to be written ---
 *
 * The strand that a client writes, or a reply of a handler, column by column.  The
 * first fault is kept: the functions that set something return it, and strand_row_json
 * returns NULL, which whatever takes a row's JSON refuses.  So a caller need look only
 * once, at the end. */
struct strand_row;

struct strand_row *strand_row_new(void);		/* NULL: out of memory */
void strand_row_free(struct strand_row *row);		/* takes NULL */
void strand_row_clear(struct strand_row *row);		/* empty, without faults */

/* Each sets one column, once: of a second value PostgreSQL decides.  Texts are copied.
 * STRAND_EINVAL: not UTF-8, not JSON, a number that is not finite; STRAND_ENOMEM. */
int strand_row_set_text(struct strand_row *row, const char *column, const char *value);	/* NULL: null */
int strand_row_set_int(struct strand_row *row, const char *column, int64_t value);
int strand_row_set_double(struct strand_row *row, const char *column, double value);
int strand_row_set_bool(struct strand_row *row, const char *column, int value);
/* Any JSON value; a number keeps all its digits.  NULL: null, as of strand_column_json. */
int strand_row_set_json(struct strand_row *row, const char *column, const char *json);

/* Adds a tag to the row's column "tags": "dm:evaluate_plan", "priority:high". */
int strand_row_add_tag(struct strand_row *row, const char *tag);

/* The row as a JSON object, borrowed until the row is changed or freed; NULL after a
 * fault, which strand_row_error tells ("" when there is none). */
const char *strand_row_json(struct strand_row *row);
const char *strand_row_error(const struct strand_row *row);

#ifdef __cplusplus
}
#endif

#endif
