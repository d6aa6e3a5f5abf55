/* Rows of module tables as listings want them.
 */
#ifndef STRANDD_STRANDCTL_STRANDS_H
#define STRANDD_STRANDCTL_STRANDS_H

#include "base/buf.h"
#include "strandctl/catalog.h"

/* Columns that strands_select begins with, in this order. */
enum strand_column {
	STRAND_ID,
	STRAND_KIND,
	STRAND_TAGS,		/* for people: "a:b, priority:high" */
	STRAND_TAGS_JSON,
	STRAND_CREATED,
	STRAND_TAGGED,
	STRAND_TAGGED_US,	/* microseconds since 1970; NULL where it is infinite */
	STRAND_N_COLUMNS,
};

/* Appends "SELECT <the columns above of the table, known as s>". */
void strands_select(struct buf *sql, const struct module_table *t);

/* strcmp for times as the server writes them in this session (ISO, UTC), whose
 * fractions lack trailing zeros. */
int strands_compare_times(const char *a, const char *b);

/* How a listing begins: connects, lets no plan read whole tables, loads the
 * catalog. */
int strands_start(struct ctl *ctl, struct catalog *c, struct err *e) MUST_CHECK;

/* What a listing's session wants: no plan that reads whole tables. */
int strands_pin_plans(struct ctl *ctl, struct err *e) MUST_CHECK;

/* Appends the ids as a PostgreSQL array. */
void strands_ids_array(struct buf *out, const char *const *ids, size_t n);

#endif
