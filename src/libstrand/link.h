/* A connection that can be left at any moment and gone on with later.
 *
 * src/pg/conn.h waits for one answer or gives the connection up: right for threads of
 * the daemon, which have time.  A library's caller may come with a deadline of a
 * millisecond, again and again; so every step here either gets on or says LINK_AGAIN,
 * and the waiting is a function of its own.  One thread at a time.
 */
#ifndef STRANDD_LIBSTRAND_LINK_H
#define STRANDD_LIBSTRAND_LINK_H

#include <stdbool.h>
#include <stdint.h>

#include <libpq-fe.h>

#include "base/err.h"
#include "pg/hosts.h"

/* What a step answers that has to wait for the server. */
enum { LINK_AGAIN = 1 };

enum link_state {
	LINK_DOWN,
	LINK_CONNECTING,
	LINK_PINNING,		/* the session's settings are on their way */
	LINK_UP,
};

struct link {
	/* Set by the owner, borrowed; before the first step. */
	const char *conninfo;		/* NULL: libpq's default */
	const char *search_path;
	const char *program;		/* application_name where the conninfo has none */
	bool pin_plans;			/* no plan reads whole tables */
	/* The link's own. */
	PGconn *pg;
	enum link_state state;
	short events;			/* of poll(2), that the last LINK_AGAIN waits for */
	struct hosts hosts;
	unsigned turn;			/* which of several hosts is next */
	PGresult *last;			/* of the answer that is being taken */
	struct err bad;			/* its first error; code 0: none */
};

/* STRAND_EINVAL for one that libpq would refuse, and for one that looks as if a part of
 * the password stood outside of it; it is not repeated. */
int link_check_conninfo(const char *conninfo, struct err *e) MUST_CHECK;

void link_release(struct link *l);
void link_drop(struct link *l);		/* closes the connection, if there is one */

/* Connecting: begins when the link is down.  0: it is up; LINK_AGAIN; STRAND_ECONN: this
 * attempt has failed, and the next call begins with the next host; STRAND_ENOMEM. */
int link_connect(struct link *l, struct err *e) MUST_CHECK;

/* Gives an attempt up: as if it had failed for this reason. */
int link_give_up(struct link *l, const char *why, struct err *e);

/* How many hosts there are to be tried, at least 1; known after an attempt has begun. */
unsigned link_hosts(const struct link *l);

/* On a link that is up and waits for nothing.  Texts as parameters; a script has
 * several statements and no parameters.  STRAND_ECONN. */
int link_send(struct link *l, const char *sql, int n_values, const char *const *values,
	      struct err *e) MUST_CHECK;
int link_send_script(struct link *l, const char *sql, struct err *e) MUST_CHECK;

/* Takes the answer to what was sent: 0 with the last result, which the caller
 * PQclears (ret_result may be NULL); LINK_AGAIN; STRAND_ESQL; STRAND_ECONN (the link is
 * down then). */
int link_take(struct link *l, PGresult **ret_result, struct err *e) MUST_CHECK;

/* Reads what has arrived unasked, without waiting: notifications.  STRAND_ECONN. */
int link_look(struct link *l, struct err *e) MUST_CHECK;

/* Waits for l->events, or for `stop_fd` (-1: none) to be readable.  0, STRAND_ETIMEOUT,
 * STRAND_ESTOPPED. */
int link_wait(struct link *l, int stop_fd, int64_t deadline) MUST_CHECK;

/* The three steps in one: blocks until the answer or `deadline`, after which the link is
 * down.  As link_take, and STRAND_ETIMEOUT. */
int link_query(struct link *l, const char *sql, int n_values, const char *const *values,
	       int64_t deadline, PGresult **ret_result, struct err *e) MUST_CHECK;

/* Several statements in one round trip, and one transaction unless they say otherwise:
 * begin, link_send each, run.  The result is that of the last one.  As link_query. */
int link_batch_begin(struct link *l, struct err *e) MUST_CHECK;
int link_batch_run(struct link *l, int64_t deadline, PGresult **ret_result, struct err *e) MUST_CHECK;

/* The connection is gone: drops it and says libpq's reason. */
int link_lost(struct link *l, struct err *e);

#endif
