/* Module tables and routes, as strandd's own catalog tables tell.
 *
 * Loaded once by a command and then only read.  Strings are borrowed from the
 * catalog and live until catalog_release.
 */
#ifndef STRANDD_STRANDCTL_CATALOG_H
#define STRANDD_STRANDCTL_CATALOG_H

#include <stdbool.h>
#include <stddef.h>

#include "strandctl/ctl.h"

struct module_table {
	const char *oid;
	const char *name;	/* for people: ad_strands */
	const char *sql;	/* for statements: public.ad_strands, quoted */
	const char *prefix;	/* "ad" */
	const char *receipts;	/* its receipts table, as in `sql`; NULL: receives nothing */
	const char *routes;	/* its routes table, likewise */
	bool has_created_at, has_kind;
	bool is_source;		/* has xact_id and tagged_at */
};

/* A route as it stands in a receiver's routes table. */
struct attachment {
	const char *number;
	const char *tag;
	const struct module_table *source, *receiver;
	const char *attached_at;
	const char *position;
	bool attached;		/* not detached */
	bool history;		/* its history is not yet written */
	bool same_system;	/* attached on this very database cluster */
	const char *suspended_at, *suspended_error;	/* NULL: it is not; one line */
};

struct catalog {
	struct module_table *tables;
	size_t n_tables;
	struct attachment *routes;	/* by receiver, then number */
	size_t n_routes;
	PGresult *tables_result, *routes_result;
};

/* The attached tag that is nearest to this one, NULL when none is near: of the
 * source table with this oid, or of any (NULL). */
const char *catalog_near_tag(const struct catalog *c, const char *tag, const char *source_oid);

/* STRAND_ENOENT, with the nearest, when no route has this tag: from this source, or
 * from any (NULL). */
int catalog_check_tag(const struct catalog *c, const char *tag, const struct module_table *source,
		      struct err *e) MUST_CHECK;

/* "ad_strands, dm_strands": where one has looked. */
void catalog_names(const struct catalog *c, char *out, size_t size);

int catalog_load(struct catalog *c, struct ctl *ctl, struct err *e) MUST_CHECK;
void catalog_release(struct catalog *c);

/* A table of any kind that a user named: resolved as SQL would. */
struct relation {
	char oid[16];
	char name[160];		/* as the server shows it */
};

/* STRAND_EINVAL when there is none; the text tells near names. */
int relation_find(struct relation *ret, struct ctl *ctl, const char *name, struct err *e) MUST_CHECK;

/* relation_find, then the module table that it is; STRAND_EINVAL when it is a
 * table that no route uses. */
int catalog_find(const struct module_table **ret_table, const struct catalog *c, struct ctl *ctl,
		 const char *name, struct err *e) MUST_CHECK;

#endif
