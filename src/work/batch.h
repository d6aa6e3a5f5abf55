/* One batch: up to a few hundred deliveries of one route, claimed, handled and
 * settled in one transaction.  Belongs to the worker that took it.
 */
#ifndef STRANDD_WORK_BATCH_H
#define STRANDD_WORK_BATCH_H

#include "base/buf.h"
#include "strand/context.h"
#include "strand/delivery.h"
#include "work/outcome.h"
#include "work/session.h"

enum item_state {
	ITEM_TAKEN,	/* not (any more) ours in the database */
	ITEM_OURS,	/* claimed by the running transaction */
	/* This transaction wrote its receipt: */
	ITEM_SETTLED,	/* `done` */
	ITEM_EXPIRED,
	ITEM_RETRY,
	ITEM_FAILED,
	ITEM_GONE,	/* nothing to do: forged, settled before, or history */
	ITEM_PUT_OFF,	/* ours, not settled, and charged nothing: later */
	ITEM_LEFT,	/* beyond the batch's bytes: the next batch's */
	ITEM_STATES
};

struct batch {
	const struct context *context;
	const struct route *route;
	size_t n;
	struct delivery **items;	/* owned by the batch until batch_end */
	enum item_state *states;
	/* Called with `arg` when the claim is on its way, to do something useful while
	 * the server is at work; may be NULL. */
	void (*meanwhile)(void *arg);
	void *arg;
	bool probe;		/* of a suspended route: nothing is charged */
	uint64_t replies, unrouted, odd_timeouts;	/* of the running transaction */
	size_t odd_item;		/* one that bears an odd timeout, if any does */
	int64_t due_ms;			/* its earliest retry is due after this; INT64_MAX: none */
	struct err *suspects;		/* by item: errors that may be the route's own; or NULL */
	unsigned failures;		/* charged in a row, up to now */
	bool row_ended;			/* a strand went through before them */
	bool broken;			/* so many failures in a row that the route is to be suspended */
	struct err broken_by;		/* the last of them, or the last suspect */
	bool committed;			/* the last transaction stands */
	enum fault fault;		/* why it failed, and where */
	enum stage stage;
	bool session_to_blame;	/* perhaps: it had served before, and is not kept */
	struct err why;			/* a strand was put off for this, and the batch went on */
	enum fault why_fault;
};

/* Claims, handles and settles in two round trips; of a serial route with one a strand.
 * 0: committed; each item's state says what became of it.  Else nothing is committed
 * (or, after a lost connection, the items are in doubt), and b->fault says whose fault
 * it was. */
int batch_run(struct batch *b, struct session *s, struct err *e) MUST_CHECK;

/* The same with a savepoint around each strand, so that a bad one costs only
 * itself: its attempt is charged. */
int batch_run_guarded(struct batch *b, struct session *s, struct err *e) MUST_CHECK;

/* For a batch of one: a transaction of its own that charges its attempt before the
 * handler runs, and sets the delivery's `leased`.  0 with `leased` 0: nothing is to be
 * run, and the item's state says why.  After a failure `leased` may be in doubt. */
int batch_lease(struct batch *b, struct session *s, struct err *e) MUST_CHECK;
/* What the lease charged has failed, `why`, and nothing of it stands. */
int batch_charge_lease(struct batch *b, struct session *s, const struct err *why, struct err *e) MUST_CHECK;

/* What the lease of item `i` charged was not the strand's doing: it is taken back, and
 * the receipt is a retry that is due.  In any transaction, or none; nothing is done when
 * the receipt is another's by now. */
int batch_give_back(struct batch *b, struct session *s, size_t i, struct err *e) MUST_CHECK;

/* Steps that both kinds share. */

/* Writes the failed attempt of item `i` into its receipt: ITEM_RETRY or ITEM_FAILED;
 * `final`: it is the last, whatever the policy.  Within the transaction that has the
 * strand.  STRAND_EPROTO: the receipt is not ours any more. */
int batch_charge(struct batch *b, struct session *s, size_t i, const struct err *why, bool final,
		 struct err *e) MUST_CHECK;
/* Settles item `i` by itself, with these values of `settle`; guarded, behind a savepoint
 * and checked, which batch_undo_one rolls back after STRAND_ESQL. */
int batch_run_one(struct batch *b, struct session *s, size_t i, int n_values, const char *const *values,
		  bool guarded, struct err *e) MUST_CHECK;
int batch_undo_one(struct batch *b, struct session *s, struct err *e) MUST_CHECK;
/* So often a strand may lose a race, lack a resource or the like at no cost. */
#define FREE_RACES 8
/* So often a session may end while a strand runs alone, or its answer is settled, at no
 * cost: an administrator does that too. */
#define FREE_LOSSES 3
/* So often it may be suspected alone before the route is taken to be broken. */
#define FREE_SUSPICIONS 8
/* An error of class 42 may be the route's or the strand's own.  True: the strand's, as
 * others have gone through since it was suspected first. */
bool batch_suspect(const struct batch *b, struct delivery *d);
/* After a COMMIT that the server refused, for which no statement and no guard can be
 * blamed: notes with the strands what it costs them. */
void batch_blame_commit(struct batch *b, struct session *s, const struct err *e);
/* Its receipt, as the open transaction has it, is `failed`: that is told, and counts
 * towards the route's suspension. */
void batch_note_final(struct batch *b, size_t i, int attempt, const struct err *why);

/* BEGIN, settings, claim: sets ITEM_OURS.  Leaves the transaction open. */
int batch_claim(struct batch *b, struct session *s, struct err *e) MUST_CHECK;
/* Queues the SET LOCALs of the route's transactions. */
int batch_send_settings(struct batch *b, struct session *s, struct err *e) MUST_CHECK;
/* Sets them now, after handlers that may have changed them, a role above all, or have
 * deallocated the statement that was prepared. */
int batch_set_anew(struct batch *b, struct session *s, struct err *e) MUST_CHECK;
/* Item `i` was handled by itself, and maybe settled: that ends a row of failures, if
 * the transaction will stand. */
void batch_note_handled(struct batch *b, size_t i);
/* Counts what `settle` answered for the items listed in `positions`. */
void batch_note_settled(struct batch *b, const PGresult *res, const size_t *positions);
/* Settles what is ours strand by strand, each by a statement of its own, and
 * commits.  For serial routes: what a strand left is there for the next one's
 * handler, also what AFTER triggers wrote, and also for a STABLE handler. */
int batch_settle_in_turn(struct batch *b, struct session *s, struct err *e) MUST_CHECK;
/* After statements were sent and a sync: the answers of `before` that say nothing, of
 * one whose result is the caller's, of a COMMIT and of the sync; leaves the pipeline.
 * Its result is NULL unless 0 is answered.  `stage`: of the one with a result. */
int batch_finish(struct batch *b, struct session *s, int before, enum stage stage, PGresult **ret_result,
		 struct err *e) MUST_CHECK;
/* Leaves the pipeline if it can after a send that failed; answers `ret`. */
int batch_leave(struct session *s, int ret);
/* Ends the transaction; STRAND_EPROTO when the server answered ROLLBACK. */
int batch_send_commit(struct session *s, struct err *e) MUST_CHECK;
int batch_fetch_commit(struct batch *b, struct session *s, struct err *e) MUST_CHECK;
int batch_commit(struct batch *b, struct session *s, struct err *e) MUST_CHECK;	/* the two by themselves */
int batch_rollback(struct session *s, struct err *e) MUST_CHECK;
/* Looks at what is still ITEM_OURS after a commit: forged, settled before, in doubt. */
int batch_examine(struct batch *b, struct session *s, struct err *e) MUST_CHECK;
/* Sets b->stage, and b->fault from it and the error; returns ret. */
int batch_failed(struct batch *b, enum stage stage, int ret, const struct err *e);
/* Nothing was committed, as far as we know: the items are taken, no more, and in
 * doubt when the connection is to blame. */
void batch_undo(struct batch *b);
/* Where the items that are ours stand, and their ids as an array. */
size_t batch_list_ours(const struct batch *b, size_t *positions, struct buf *ids);
/* Deadline of one statement of the batch. */
int64_t batch_deadline(const struct batch *b);
/* Frees what the batch holds but its items. */
void batch_release(struct batch *b);

#endif
