/* Hearing of strands as they are written: the specification's ModuleListener.
 *
 * A listener is one connection that LISTENs on the channels of some tags ("dm:evaluate_plan"
 * is channel dm_evaluate_plan, and dm_evaluate_plan:high for what is urgent), reads
 * each announced strand from its table, and hands it out.  It is an ordinary role that
 * may SELECT from those tables.  It takes nothing away from strandd or from other
 * listeners, and leaves no receipt.
 *
 *     struct strand_listener *listener;
 *     const struct strand *strand;
 *
 *     strand_listener_open(&listener, "dbname=trading", "alpha");
 *     while (!strand_listener_next(listener, -1, &strand))
 *             printf("%s\n", strand_json(strand));
 *     fprintf(stderr, "%s\n", strand_listener_error(listener));
 *     strand_listener_close(listener);
 *
 * What is promised.  Every strand that bears the tag and is committed after
 * strand_listener_start has answered 0 is handed out at least once, as long as this
 * listener lives: while the connection is away, the server restarts or a notification
 * is lost, too.  It connects again by itself, after 0.1 s and then after longer pauses,
 * at most 10 s, and then, and every `interval`, reads what may have been missed:
 *  - In a table that strandd has attached (it has a column xact_id) it reads what
 *    transactions wrote that had not ended when it last looked.  Nothing slips by.
 *  - In a table of the specification alone it reads what has a created_at younger than
 *    60 s before its last look.  What a transaction of more than 60 s commits, or what
 *    bears another created_at, can be missed; and nothing is announced by an UPDATE.
 *  - In a table with neither there are the notifications, and no more.
 * After a failover to a standby that lacked transactions of the old server's, what is
 * written before the listener is connected again can be missed: numbers come twice.
 * Usually it is handed out once: the last 65,536 (or 8 MiB of ids) are remembered, by
 * tag and id, and not handed out again.  With more than these between two looks,
 * duplicates may come: tell them by id.
 *
 * A strand is handed out as it is when it is read.  One that is gone by then, or does
 * not bear the tag any more, is passed over; one whose JSON is nested deeper than 500
 * is named in an error (STRAND_EPROTO), and the next call goes on behind it.  No order is promised; urgent strands
 * (priority:high) go before others.
 *
 * Time: no call blocks beyond the deadline that it is given, except that the C library
 * looks up host names by its own rules.  What a deadline cuts short goes on in the next
 * call, so any deadline will do; but a listener that is not called takes in nothing,
 * and then PostgreSQL keeps its notifications for it: call it often.
 *
 * Threads: a listener belongs to one thread at a time, but for strand_listener_stop.
 */
#ifndef STRAND_LISTENER_H
#define STRAND_LISTENER_H

#include <strand/data.h>
#include <strand/error.h>

#ifdef __cplusplus
extern "C" {
#endif

struct strand_listener;

/* Makes a listener, which does not connect yet.  `conninfo` as for strand_client_open.
 * `module`: with "alpha", "dm" and "trader" come the tags that the specification sends
 * to them, from its tables; others add theirs by strand_listener_add, and NULL will do.
 *
 * *ret_listener is set also on failure (NULL only when memory is short), so that
 * strand_listener_error can tell why; the caller closes it in either case.
 * STRAND_EINVAL (a bad conninfo, which is not repeated), STRAND_ENOMEM, STRAND_ESYS. */
int strand_listener_open(struct strand_listener **ret_listener, const char *conninfo, const char *module);

void strand_listener_close(struct strand_listener *listener);		/* takes NULL */

/* What went wrong in the last call, one line of UTF-8, never a password; "" when nothing
 * did, "out of memory" for NULL.  Borrowed until the next call. */
const char *strand_listener_error(const struct strand_listener *listener);

/* Listens on a tag, too, of strands in table `source`.  Before the first start or next
 * only.  STRAND_EINVAL: not of the form <module>:<action>, too long for a channel,
 * added already, or too late; STRAND_ENOMEM. */
int strand_listener_add(struct strand_listener *listener, const char *tag, const char *source);

/* How often to look for what was missed, in milliseconds, at least 1; 30,000 unless
 * set.  One look is a few statements that read what is new. */
void strand_listener_set_interval(struct strand_listener *listener, int interval_ms);

/* Waits until it is connected and listens, at most `timeout_ms` milliseconds; -1 is
 * for ever.  0: from now on nothing is missed.  Errors as of strand_listener_next. */
int strand_listener_start(struct strand_listener *listener, int timeout_ms);

/* The next strand.  Waits for one for `timeout_ms` milliseconds at most; 0 looks without
 * waiting, -1 waits for ever.  *ret_strand is borrowed until the next call with this
 * listener.
 *
 * STRAND_ETIMEOUT: none came.  STRAND_ECONN: none came, and there is no connection; it
 * is tried for again in the next call.  STRAND_ESTOPPED: see below.  STRAND_EINVAL: no
 * tags, no such table, no right to read it; STRAND_ESQL; STRAND_EPROTO: a strand that
 * cannot be read, see above; STRAND_ENOMEM.  After any of them the listener can be used
 * again. */
int strand_listener_next(struct strand_listener *listener, int timeout_ms,
			 const struct strand **ret_strand);

/* Calls `fn` for each strand until it returns other than 0, which is returned then;
 * lost connections are its own business.  STRAND_ESTOPPED, STRAND_EINVAL, STRAND_ESQL,
 * STRAND_EPROTO, STRAND_ENOMEM. */
typedef int strand_listener_fn(const struct strand *strand, void *arg);
int strand_listener_run(struct strand_listener *listener, strand_listener_fn *fn, void *arg);

/* Makes the running call and all later ones return STRAND_ESTOPPED soon.  Any thread,
 * and a signal handler. */
void strand_listener_stop(struct strand_listener *listener);

#ifdef __cplusplus
}
#endif

#endif
