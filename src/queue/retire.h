/* Memory that may be freed only after a grace period.
 *
 * A thin layer over call_rcu that counts what waits.  call_rcu itself has no
 * bound: when the thread that runs its callbacks gets no processor, the backlog
 * would grow as fast as workers finish.  Here the one who adds to a backlog of
 * more than RETIRE_MAX_BYTES waits until it is gone.
 *
 * Any registered thread, outside a read-side section.
 */
#ifndef STRANDD_QUEUE_RETIRE_H
#define STRANDD_QUEUE_RETIRE_H

#include <stddef.h>

#include <urcu.h>

#define RETIRE_MAX_BYTES ((size_t)4 << 20)

/* Starts the thread that frees, which else would bear the name of the thread that
 * retires first.  The main thread, before others start. */
void retire_start(void);

/* Takes a block from malloc, of which `head` is the first member and which no
 * new reader can find, and frees it after a grace period. */
void retire(struct rcu_head *head);

/* Waits until all that was retired so far is freed. */
void retire_wait(void);

size_t retire_pending(void);	/* bytes that wait now; for tests */

#endif
