/* The supervisor: the thread that starts, watches and ends all child processes.
 *
 * It lives as long as the process (PR_SET_PDEATHSIG follows the thread that spawned).
 * One struct, owned by the main thread.
 *
 * A child leads a process group of its own, and the two end together: when it has died,
 * what is left of its group and still holds its stdout or stderr gets SIGTERM, the
 * grace and SIGKILL, the rest SIGKILL at once.  Another is started only after that.
 * What a child put into a session of its own is beyond our reach, as it is meant to be.
 * When strandd is killed, so are its children (setpriv(1), which must be in PATH);
 * their own children find their pipes closed.
 */
#ifndef STRANDD_HANDLE_SUPERVISOR_H
#define STRANDD_HANDLE_SUPERVISOR_H

#include <stdint.h>

#include "base/err.h"
#include "handle/child.h"

struct supervisor;

/* Main thread.  _stop ends all children that are left, removed or not: EOF, SIGTERM
 * after a second (or the grace, if that is less), SIGKILL after the grace of their
 * policies; none is left behind, the thread is joined, and all slots are freed.  Takes
 * NULL.  The one exception, logged: what the kernel itself cannot kill within 5 s. */
int supervisor_start(struct supervisor **ret, struct err *e) MUST_CHECK;
void supervisor_stop(struct supervisor *s);

/* Main thread: a slot, whose process is started at once; given back (its worker has
 * ended), its process is ended (EOF, the grace, SIGTERM, the grace, SIGKILL) without the
 * caller waiting for it, and the slot is the supervisor's to free.  `policy` is
 * borrowed for the call only: it is copied, strings too. */
int supervisor_add(struct supervisor *s, const struct child_policy *policy, unsigned number,
		   struct child **ret, struct err *e) MUST_CHECK;
void supervisor_remove(struct supervisor *s, struct child *c);	/* takes NULL */

/* Any thread: each slot's process is replaced by a new one, of each route one after
 * the other, when its worker calls child_tidy; the next in turn once the new one is
 * ready, has read a request, or is up for a second.  A route whose new processes do not
 * get so far keeps its others.  Slots that wait for another start make it at once. */
void supervisor_replace_all(struct supervisor *s);

/* Any thread; a moment apart: for gauges. */
struct supervisor_counts {
	unsigned up, starting, waiting;
	unsigned outdated;		/* of the first two: to be replaced by supervisor_replace_all */
	uint64_t starts, deaths;	/* deaths: but of those that were to leave */
};
void supervisor_counts(struct supervisor *s, struct supervisor_counts *ret);

#endif
