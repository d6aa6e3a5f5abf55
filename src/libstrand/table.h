/* A module's table, as the catalog has it. */
#ifndef STRANDD_LIBSTRAND_TABLE_H
#define STRANDD_LIBSTRAND_TABLE_H

#include <stdbool.h>

#include <libpq-fe.h>

#include "base/err.h"

struct table {
	char *name;		/* as its user wrote it: "AD_strands" */
	char *sql;		/* quoted and qualified: public.ad_strands */
	char *prefix;		/* of new ids: "AD" */
	bool has_module;	/* a column of this name */
	bool has_created_at;	/* likewise, of any type */
	bool tells_time;	/* created_at is a timestamptz */
	bool fills_created_at;	/* it has a default, or is none that we would fill */
	bool has_xact_id;	/* strandd has attached it */
};

/* One parameter, the name.  No row: there is no such table. */
extern const char table_sql[];

/* From that statement's answer; `name` is copied.  STRAND_EINVAL: there is none, or it
 * cannot hold strands; STRAND_ENOMEM. */
int table_read(struct table *ret, const char *name, const PGresult *res, struct err *e) MUST_CHECK;
void table_release(struct table *t);

#endif
