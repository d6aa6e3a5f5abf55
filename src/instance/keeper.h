/* The keeper thread: shows that this instance is alive, and finds out which are not.
 *
 * An instance is alive while a session of it holds the instance's advisory lock; the
 * server frees that lock when the session ends, and keepalives bound how long a host
 * that vanished holds it.  A lease that another instance left behind may be taken over
 * when its instance's lock has been seen free for KEEPER_GRACE_MS without a break, as
 * long as this session lasts: after a restart of the server all locks are gone, and
 * the living have that long to take theirs again.
 *
 * Only where a route's handler is a process: a handler in SQL runs within the
 * transaction that holds its strand's lock.
 *
 * init and release: the main thread, nobody else inside; keeper_run: the thread's own;
 * all others: any thread.  The mutex is a leaf.
 */
#ifndef STRANDD_INSTANCE_KEEPER_H
#define STRANDD_INSTANCE_KEEPER_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>

#include "base/buf.h"
#include "strand/context.h"

#define KEEPER_GRACE_MS 5000
#define KEEPER_MARGIN_MS 1000	/* of it, that is not counted on */
#define KEEPER_OTHERS 64	/* instances that are looked at at a time */

/* The key of an instance's lock, of its number as text.  Of the number space of advisory
 * locks with one key, as the locks on strands are; hashed with a seed of its own. */
#define KEEPER_LOCK_KEY(instance) "pg_catalog.hashtextextended('strandd instance ' || " instance ", 6005)"

/* Another instance that has leases. */
struct keeper_other {
	int64_t number;
	int64_t free_since;	/* clock_now() based: its lock was first seen free; 0: it was held */
	bool seen;		/* in the present look */
};

struct keeper {
	const struct context *context;
	struct conn *conn;		/* the keeper's own; NULL while there is none */
	size_t n_others;		/* the same */
	struct keeper_other others[KEEPER_OTHERS];
	uint64_t last_term;		/* the same: how often the lock was taken */
	_Atomic uint64_t term;		/* which time it is held; 0: it is not */
	_Atomic int64_t held_until;	/* clock_now() based: nobody takes anything over before */
	_Atomic unsigned users;		/* threads that may have leases */
	pthread_mutex_t lock;		/* of what follows */
	size_t n_dead;
	int64_t dead[KEEPER_OTHERS];
};

int keeper_init(struct keeper *k, const struct context *x) MUST_CHECK;
void keeper_run(void *keeper);		/* thread body; until STOP_DRAIN and the last user has left */
void keeper_release(struct keeper *k);

/* Around the life of a thread that may have leases: entered before it starts, by who
 * starts it. */
void keeper_enter(struct keeper *k);
void keeper_leave(struct keeper *k);

/* For how many times the lock has been taken, if it is held for certain: the server said
 * so within the grace.  Else 0: nothing may be leased, and nothing that was leased be
 * handled, for others may have taken it over.  Another number than before says the same
 * of what was leased before. */
uint64_t keeper_term(const struct keeper *k);

/* The instances that are dead, as a bigint[] for PostgreSQL.  One may have taken its
 * lock again since, so who takes a lease over tries for it, shared, in the same
 * transaction. */
void keeper_list_dead(struct keeper *k, struct buf *out);

#endif
