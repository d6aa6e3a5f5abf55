/* A client: one link, and what it knows of tables; private to client.c, write.c and
 * read.c.  Includes nothing of the public header's promises: they are there. */
#ifndef STRANDD_LIBSTRAND_CLIENT_H
#define STRANDD_LIBSTRAND_CLIENT_H

#include "libstrand/link.h"
#include "libstrand/table.h"
#include "strand/client.h"

enum { CLIENT_TABLES = 32 };

struct strand_client {
	struct link link;
	char *conninfo, *module, *search_path;	/* owned */
	char *table_name;			/* the own table's */
	struct table tables[CLIENT_TABLES];	/* looked up so far, on this connection */
	size_t n_tables;
	int timeout_ms;
	struct err err;				/* of the last call */
	char **ids;				/* of what was written last */
	size_t n_ids;
};

/* How a call begins: forgets the last error; the deadline. */
int64_t client_begin(struct strand_client *c);

/* Connects unless it is.  STRAND_ECONN, STRAND_EINVAL, STRAND_ENOMEM. */
int client_connect(struct strand_client *c, int64_t deadline) MUST_CHECK;

/* The table of that name, NULL for the own one, borrowed until the next look-up.
 * STRAND_EINVAL and link_query's errors. */
int client_table(struct strand_client *c, const char *name, int64_t deadline,
		 const struct table **ret_table) MUST_CHECK;

void client_forget_ids(struct strand_client *c);

/* For a call that began on a connection that looked good and ended with `code`: may it
 * begin again on another?  What it had done is undone then: a lost connection's
 * transaction, of which STRAND_ECONN says that it is not committed. */
bool client_may_repeat(int code, int64_t deadline);

#endif
