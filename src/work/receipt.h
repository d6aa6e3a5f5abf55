/* The texts of the statements that write one strand's receipt outside a settle: a
 * failed attempt, and a lease.  Pure; private to src/work.
 *
 * The allowed moves of a receipt's state are those of the WHERE clauses here and in
 * statement.c.  Who runs one holds the strand's advisory lock, or
 * settles the lease of a process, which is fenced by instance and attempt.
 */
#ifndef STRANDD_WORK_RECEIPT_H
#define STRANDD_WORK_RECEIPT_H

#include "base/buf.h"
#include "instance/keeper.h"
#include "strand/route.h"
#include "strand/sqlstate.h"

/* The key of a strand's receipt, as its index has it. */
#define RECEIPT_KEY(id) "strandd.receipt_key(" id ") COLLATE \"C\""

/* Seconds, as a numeric that may be infinite: as intervals, two timestamps that are far
 * apart have no difference, and what stands in the table is not to fail a statement. */
#define AGE_OF(tagged_at, at) "(extract(epoch FROM " at ") - extract(epoch FROM " tagged_at "))"

/* A lease of this age may be taken over: whoever still runs its handler holds the
 * strand's lock. */
#define LEASE_GRACE "interval '5 s'"
/* But by a session of this age only.  A server that has crashed, or another that was
 * promoted, has ended all sessions: whoever made the lease may live, and gives it back
 * when it has connected again, which a worker tries every five seconds or so.
 * (The least idle_timeout and max_lifetime let one become so old.) */
#define LEASE_SESSION_MS 8000

/* Whether a process's lease is one's own, which memory does not know, or of an instance
 * that is dead, and still is.  $2 one's own, $3 those that are dead. */
#define MAY_TAKE_OVER(instance) "CASE WHEN " instance " = $2::bigint THEN true WHEN " instance " = ANY ($3::bigint[])" \
	" THEN pg_catalog.pg_try_advisory_xact_lock_shared(" KEEPER_LOCK_KEY(instance "::text") ") ELSE false END"

/* $1 id, $2 instance, $3 error, $4 sqlstate, $5 the leased attempt or 0, $6 whether it is
 * the last.  An attempt
 * has failed: `retry`, due by the database's clock, or `failed` when it was the last.
 * Answers (state, attempt, milliseconds until it is due or NULL); no row when the
 * receipt is another's by now. */
void receipt_build_fail(struct buf *b, const struct route *r);

/* $1 id, $2 instance, $3 whether the session is of that age.  Charges an attempt before the handler runs: `running`; or
 * `failed`, when a lease that was left behind was the last attempt.  Answers (state,
 * attempt); no row when there is nothing to run. */
void receipt_build_lease(struct buf *b, const struct route *r);

/* $1 id, $2 instance, $3 the leased attempt.  Takes the lease's charge back, unless it
 * is another's by now, or one is just changing it: it waits for nobody, and needs no
 * lock on the strand. */
void receipt_build_give_back(struct buf *b, const struct route *r);

/* $1 id; of a process's route also $2 instance, $3 the instances that are dead.  A retry,
 * or a lease that was left behind, whose strand is gone or bears the tag no more, comes
 * to rest as `withdrawn`.  A process is at work outside of any transaction, so the lock
 * on the strand does not say that its lease was left behind. */
void receipt_build_rest(struct buf *b, const struct route *r);

#endif
