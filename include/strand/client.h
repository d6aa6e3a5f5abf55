/* Writing and reading strands: the specification's DirectTableCommunicator.
 *
 * A client is one connection to PostgreSQL, as an ordinary role, and one module.  It
 * needs the module tables and nothing else: strandd and its schema may be there or not.
 *
 *     struct strand_client *client;
 *     const char *tags[] = { "dm:evaluate_plan" }, *id;
 *
 *     if (strand_client_open(&client, "dbname=trading", "alpha", NULL) ||
 *         strand_client_write(client, NULL, "{\"symbol\": \"SPX\"}", tags, 1, &id))
 *             fprintf(stderr, "%s\n", strand_client_error(client));
 *     strand_client_close(client);
 *
 * Tables are named as SQL names them: AD_strands is ad_strands, "trading.AD_strands" is
 * in schema trading.  NULL is the client's own table.  The session's search_path is
 * pinned to public, or, where the own table was named with a schema, to that and then
 * public; its time zone is UTC, and a COMMIT waits until it is on disk.
 *
 * Time: no call takes longer than the client's timeout (30 seconds unless set), except
 * that the C library looks up host names by its own rules.  A connection that was lost
 * is opened anew by the next call; one that was lost while nobody used it is noticed
 * and replaced.
 *
 * Errors: a code of strand/error.h, and strand_client_error for people.  After any of
 * them the client can be used again.
 *
 * Threads: a client belongs to one thread at a time.  Several clients are independent.
 */
#ifndef STRAND_CLIENT_H
#define STRAND_CLIENT_H

#include <stddef.h>

#include <strand/data.h>
#include <strand/error.h>

#ifdef __cplusplus
extern "C" {
#endif

struct strand_client;

/* Connects.  `conninfo`: a connection string or URI of libpq, or the name of a
 * database; NULL is libpq's own default.  `module`: "alpha", "dm", "trader" or one of
 * yours.  `table`: the module's own; NULL for the specification's three.  All are
 * copied.
 *
 * *ret_client is set also on failure (NULL only when memory is short), so that
 * strand_client_error can tell why; the caller closes it in either case.
 * STRAND_EINVAL (no such table, a table that cannot hold strands, a bad conninfo, which
 * is not repeated), STRAND_ECONN, STRAND_ETIMEOUT, STRAND_ESQL, STRAND_ENOMEM. */
int strand_client_open(struct strand_client **ret_client, const char *conninfo, const char *module,
		       const char *table);

void strand_client_close(struct strand_client *client);		/* takes NULL */

/* What went wrong in the last call, one line of UTF-8, never a password; "" when nothing
 * did, "out of memory" for NULL.  Borrowed until the next call. */
const char *strand_client_error(const struct strand_client *client);

/* The SQLSTATE of the last call's STRAND_ESQL, five characters; else "". */
const char *strand_client_sqlstate(const struct strand_client *client);

/* How long each later call may take, in milliseconds, at least 1. */
void strand_client_set_timeout(struct strand_client *client, int timeout_ms);

/* Writes one strand and commits.  `data` is a JSON object whose keys are columns;
 * columns that it leaves out get the table's defaults.  `tags` (NULL if n_tags is 0)
 * are added to those that `data` has in "tags".  Where they are left out,
 *   id       is the table's prefix and twelve hexadecimal digits: AD_5f0c...;
 *   module   is the client's module, in its own table;
 *   created_at  is the present, where the table has no default for it.
 * "xact_id" and "tagged_at" are PostgreSQL's to fill and refused.
 *
 * *ret_id (ret_id may be NULL) is the strand's id, borrowed until the next call.
 *
 * 0 means that it is committed.  STRAND_EDOUBT: the connection was lost while the
 * COMMIT was under way, and PostgreSQL could not be asked in time whether it took
 * effect; all other codes mean that nothing was written.  STRAND_EINVAL (no JSON object,
 * a tag that is NULL), STRAND_ESQL (a column that is not there, a value that its type
 * refuses, an id that is taken), STRAND_ECONN, STRAND_ETIMEOUT, STRAND_ENOMEM. */
int strand_client_write(struct strand_client *client, const char *table, const char *data,
			const char *const *tags, size_t n_tags, const char **ret_id);

/* Writes n strands, in this order, in one transaction: all or none.  `tags` are added
 * to each.  ret_ids (NULL if not wanted) is an array of n, filled with ids as above.
 * Errors as above; where `data` is at fault it is named, "strand 3: ...", but what
 * PostgreSQL refuses is in its words. */
int strand_client_write_many(struct strand_client *client, const char *table, const char *const *data,
			     size_t n, const char *const *tags, size_t n_tags, const char **ret_ids);

/* Reads the strand with this id: a set of one, which the caller frees.  STRAND_ENOENT:
 * there is none.  STRAND_EPROTO: its JSON is nested deeper than 500.  STRAND_EINVAL,
 * STRAND_ESQL, STRAND_ECONN, STRAND_ETIMEOUT, STRAND_ENOMEM. */
int strand_client_read(struct strand_client *client, const char *table, const char *id,
		       struct strand_set **ret_set);

/* Reads the newest strands that bear all of the tags (n_tags 0: any strands), newest
 * first by created_at, at most `limit` of them, at least 1; the caller frees the set,
 * which may be empty.  As in the specification those whose created_at is null come
 * first.  A table without created_at is read in the order of writing, newest first, if
 * strandd has it attached, else in no order.  Errors as of strand_client_read, without
 * STRAND_ENOENT. */
int strand_client_recent(struct strand_client *client, const char *table, const char *const *tags,
			 size_t n_tags, int limit, struct strand_set **ret_set);

#ifdef __cplusplus
}
#endif

#endif
