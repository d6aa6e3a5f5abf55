/* All connections of the process, for people who ask (SIGUSR1).
 *
 * A connection's thread keeps its entry with relaxed stores; who lists reads them
 * without stopping anybody, so numbers of one entry may be a moment apart.  One that
 * finds the roster full goes unlisted.
 */
#ifndef STRANDD_PG_ROSTER_H
#define STRANDD_PG_ROSTER_H

#include <stddef.h>
#include <stdint.h>

/* Two for each thread that may be there: its own, and conn_kill's. */
enum { ROSTER_CONNECTIONS = 576 };

enum roster_state {
	ROSTER_CONNECTING,
	ROSTER_WAITING,		/* for the server's answer */
	ROSTER_LISTENING,	/* for notifications */
	ROSTER_IDLE,
	ROSTER_IN_TRANSACTION,
	ROSTER_FAILED_TRANSACTION,
	ROSTER_BROKEN,
	ROSTER_STATES
};

struct roster_entry;	/* NULL where there was no room: all calls take it */

/* The calling thread's new connection. */
struct roster_entry *roster_enter(void);
void roster_leave(struct roster_entry *entry);
void roster_state(struct roster_entry *entry, enum roster_state state, int64_t now);
void roster_pid(struct roster_entry *entry, int pid);

struct roster_view {
	char owner[16];		/* the thread that opened it */
	int pid;		/* of the server's process; 0: not known yet */
	enum roster_state state;
	int64_t opened_at, since;	/* clock_now() based; since: in this state */
};

const char *roster_state_name(enum roster_state state);

/* Fills up to `max`; returns how many.  Any thread. */
size_t roster_list(struct roster_view *ret, size_t max);

#endif
