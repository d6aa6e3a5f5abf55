/* The table that strands are published to: its columns and routes.
 *
 * Loaded once, then only read; no call but target_load asks the server.  The main
 * thread's.  STRAND_EINVAL is the user's mistake, with near names in the text.
 */
#ifndef STRANDD_STRANDCTL_TARGET_H
#define STRANDD_STRANDCTL_TARGET_H

#include <stdbool.h>

#include "strandctl/catalog.h"

struct target {
	struct ctl *ctl;
	struct relation relation;
	char *sql;		/* quoted and qualified */
	char *prefix;		/* upper case, for new ids */
	PGresult *columns;	/* name, quoted name, is json */
	const struct catalog *catalog;		/* NULL: tags are not checked */
	bool allow_unrouted;
};

/* STRAND_EINVAL when there is no such table, or it cannot hold strands; errors of
 * ctl_query, STRAND_ENOMEM.  Borrows the catalog. */
int target_load(struct target *t, struct ctl *ctl, const char *table, const struct catalog *c,
		bool allow_unrouted, struct err *e) MUST_CHECK;
void target_release(struct target *t);	/* also after a target_load that failed; takes a zeroed one */

/* Index of the column in t->columns, or -1. */
int target_column(const struct target *t, const char *name);
bool target_column_is_json(const struct target *t, int column);

/* Refuses a name that is no column, or one of ours; tells near names. */
int target_check_column(const struct target *t, const char *name, struct err *e) MUST_CHECK;

/* Refuses a <module>:<action> tag that no route has on this table, and an attribute
 * that would not be heeded. */
int target_check_tag(const struct target *t, const char *tag, struct err *e) MUST_CHECK;

/* "AD_" and 12 random hex digits; the caller frees it.  NULL: out of memory, or no
 * random bytes. */
char *target_new_id(const struct target *t);

#endif
