/* A listener: what its files share.
 *
 * listener.c is the loop and what callers call, session.c brings a connection up and
 * reads announced strands, catchup.c reads what was missed.  Nothing here waits but the
 * loop: each step sends something, or takes an answer, or says LINK_AGAIN.
 */
#ifndef STRANDD_LIBSTRAND_LISTENER_H
#define STRANDD_LIBSTRAND_LISTENER_H

#include "libstrand/link.h"
#include "libstrand/pending.h"
#include "libstrand/table.h"
#include "libstrand/view.h"
#include "libstrand/window.h"
#include "scan/snapshot.h"
#include "strand/listener.h"

enum {
	CHUNK = 64,			/* strands that are read at a time */
	PAGE_ROWS = 1000,		/* rows that one look reads at a time */
	PENDING_ROOM = 1000,		/* with more to be read, nothing is looked for */
	PENDING_MAX = 100000,		/* more announcements are dropped, and looked for later */
	PENDING_BYTES = 8 << 20,
	ANSWER_MS = 30000,		/* a server that takes longer is gone */
};

struct listen_source {
	char *name;			/* as it was given */
	struct table table;		/* on this connection; sql NULL: not looked up yet */
};

struct listen_route {
	char *tag, *tags;		/* dm:evaluate_plan, ["dm:evaluate_plan"] */
	char *channel, *high_channel;
	size_t source;			/* index */
};

/* Where in its life a connection is, and what is being waited for. */
enum listen_phase {
	PHASE_AWAY,			/* until retry_at */
	PHASE_CONNECTING,
	PHASE_TABLES,			/* table `at` is being looked up */
	PHASE_LISTENING,
	PHASE_IDLE,
	PHASE_LOADING,			/* a chunk's strands */
	PHASE_SNAPSHOT,
	PHASE_PAGE,
};

/* Strands of one table that are being read, or were and wait to be handed out. */
struct chunk {
	struct pending_entry *entries[CHUNK];
	size_t n, next;			/* next: to be handed out */
	PGresult *rows;			/* NULL: not read yet */
};

/* How far a listener has come: every transaction that had ended then, and the time. */
struct position {
	char *snapshot, *time;		/* owned; NULL: none yet */
};

/* One look at what may have been missed. */
struct pass {
	bool active;
	struct snapshot since, now;	/* parsed */
	struct position end;		/* where it will have come */
	char *since_time;		/* with the overlap taken off */
	size_t route, range;
	bool in_range;			/* from, hash and to are set */
	char from[64], to[24];
	int64_t hash;
};

struct strand_listener {
	struct link link;
	char *conninfo;
	struct listen_source *sources;
	struct listen_route *routes;
	size_t n_sources, n_routes;
	bool started;
	int stop_fd;
	int interval_ms;

	enum listen_phase phase;
	size_t at;			/* in PHASE_TABLES */
	int64_t until;			/* clock_now() based: the server's time for this answer */
	int64_t retry_at, look_at;
	unsigned failures;
	struct chunk *loading;		/* in PHASE_LOADING */

	struct window window;
	struct pending pending;
	struct chunk chunks[2];		/* normal, urgent */
	bool missed;			/* announcements were dropped: look soon */

	struct position base;		/* the last look's */
	struct pass pass;

	struct strand current;		/* what was handed out last */
	struct err err;			/* of the last call */
	struct err trouble;		/* why there is no connection */
};

/* --- session.c: 0, LINK_AGAIN, or an error after which the connection is dropped */

/* Something was sent, or (`ret`) was not: from now on its answer is waited for. */
int session_sent(struct strand_listener *l, enum listen_phase phase, int ret) MUST_CHECK;
int session_send_table(struct strand_listener *l) MUST_CHECK;
int session_take_table(struct strand_listener *l) MUST_CHECK;
int session_take_listen(struct strand_listener *l) MUST_CHECK;
int session_load(struct strand_listener *l, struct chunk *c) MUST_CHECK;
int session_take_rows(struct strand_listener *l) MUST_CHECK;

/* Takes note of what was announced. */
void session_take_notes(struct strand_listener *l);

/* An id of a route, from an announcement or a page.  1: new; 0: known already;
 * STRAND_ENOMEM. */
int session_offer(struct strand_listener *l, unsigned route, const char *id, bool urgent) MUST_CHECK;

/* The next strand of the chunk that is there and bears its tag, into l->current.  1; 0:
 * there is none; STRAND_ENOMEM: it will be there again; STRAND_EPROTO: it is passed over. */
int session_hand_out(struct strand_listener *l, struct chunk *c) MUST_CHECK;
void chunk_release(struct chunk *c);

/* --- catchup.c, likewise */
int catchup_begin(struct strand_listener *l) MUST_CHECK;
int catchup_take_snapshot(struct strand_listener *l) MUST_CHECK;
int catchup_next_page(struct strand_listener *l) MUST_CHECK;
int catchup_take_page(struct strand_listener *l) MUST_CHECK;
void catchup_break_off(struct strand_listener *l);

void position_release(struct position *p);

#endif
