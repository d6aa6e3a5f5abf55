/* Failed and expired receipts: which ones are meant, and how they are shown.
 *
 * failed.c reads the arguments and runs one of the verbs, which stand in
 * failed_show.c and failed_change.c (failed_tally.c counts and tells for it);
 * failed_select.c makes the SQL.
 */
#ifndef STRANDD_STRANDCTL_FAILED_H
#define STRANDD_STRANDCTL_FAILED_H

#include <stdint.h>

#include "base/buf.h"
#include "strandctl/catalog.h"
#include "strandctl/options.h"

#define FAILED_DEFAULT_LIMIT 50		/* of what list shows */
#define FAILED_ALL INT64_MAX
#define FAILED_AGE_ANY (-1)
#define FAILED_NOTHING "nothing that has failed or expired is meant by this"

struct failed_args {
	struct ctl *ctl;
	struct options_list words;	/* the verb, then ids */
	struct options_list ids;
	const char *tag, *table, *error, *sqlstate, *state;	/* NULL: any */
	int64_t older_ms, newer_ms;	/* since finished_at, or FAILED_AGE_ANY */
	int64_t limit;			/* FAILED_ALL: not given */
	bool dry_run, yes, force;
};

/* What the arguments mean in this database. */
struct failed {
	const struct failed_args *args;
	struct ctl *ctl;
	struct catalog catalog;
	const struct attachment **routes;	/* that tag and table select; owned */
	size_t n_routes;
	char *ids;			/* a PostgreSQL array, or NULL: any */
	char before[48], after[48];	/* bounds of finished_at, by the server's clock */
};

/* Connects, and looks everything up that the arguments name.  STRAND_ENOENT: no
 * such route.  Release it in any case. */
int failed_start(struct failed *f, const struct failed_args *args, struct err *e) MUST_CHECK;
void failed_release(struct failed *f);

/* Refuses an id that no table and no receipt knows, and warns of one that has
 * nothing failed: *ret_missed counts those. */
int failed_check_ids(struct failed *f, size_t *ret_missed, struct err *e) MUST_CHECK;

/* Where a page goes on: after this receipt, in the order of failed_from. */
struct failed_position {
	char finished[48];	/* "": from the start */
	char *key;		/* owned; NULL: from the start */
};

/* Appends " FROM ... r WHERE ..." for one route, r being its receipts, with the values
 * of failed_query.  The literal list of states is what the partial index wants. */
void failed_from(struct buf *sql, const struct failed *f, const struct attachment *a);
#define FAILED_ORDER " ORDER BY r.finished_at DESC, r.strand_id"

/* Runs a statement that is made with failed_from. */
int failed_query(struct failed *f, const char *sql, const struct failed_position *position,
		 PGresult **ret_result, struct err *e) MUST_CHECK;

/* failed_show.c: the newest ones of all routes, at most so many. */
int failed_list(struct failed *f, int64_t limit, struct err *e) MUST_CHECK;
int failed_show(struct failed *f, struct err *e) MUST_CHECK;

/* failed_change.c: tells what it did, also on failure unless it did nothing.
 * *ret_code: an exit code when 0 is returned. */
struct failed_verb {
	const char *name;	/* "retry" */
	const char *function;	/* "strandd.retry" */
	const char *outcome;	/* what it says of a receipt that it changed */
	const char *done, *would;	/* "retried", "would_retry": keys of JSON */
	const char *ask;	/* "Deliver %s again" */
};
extern const struct failed_verb failed_retry, failed_discard;
int failed_change(struct failed *f, const struct failed_verb *verb, int *ret_code, struct err *e) MUST_CHECK;

#endif
