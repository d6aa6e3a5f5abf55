/* What a process writes to its standard error, as lines of strandd's log.
 *
 * So many lines a second, each cut at a bound; the rest is counted, and told in one
 * line now and then.  A flood is read no faster than a piece a millisecond, so that it
 * costs the process that makes it, and the supervisor hardly anything.
 * Owned by the supervisor's thread.
 */
#ifndef STRANDD_HANDLE_ERRLOG_H
#define STRANDD_HANDLE_ERRLOG_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "handle/child.h"

#define ERRLOG_LINE 1900	/* bytes: with what stands before it, what the log takes */
#define ERRLOG_TELL_MS 5000	/* what was left out is told so long after it began */

struct errlog {
	const struct child_policy *policy;	/* borrowed */
	unsigned number;			/* of the slot */
	pid_t pid;
	char line[ERRLOG_LINE + 1];
	size_t len;
	bool cut;				/* the line's rest is left out */
	int64_t second;				/* when the one began that is counted */
	unsigned logged;			/* in it */
	uint64_t lines, bytes;			/* left out, and not told yet */
	int64_t tell_at;			/* INT64_MAX: there is nothing to be told */
	int64_t look_at;			/* not read before */
	char last[160];				/* the last line that was not blank */
};

/* A new process. */
void errlog_begin(struct errlog *l, const struct child_policy *policy, unsigned number, pid_t pid);

/* Reads one piece.  0: more may be there; STRAND_ETIMEOUT: nothing is, now;
 * STRAND_ECONN: it is closed, or as good as that. */
int errlog_read(struct errlog *l, int fd, int64_t now) MUST_CHECK;

/* Tells what was left out, if it is time; when it will be (INT64_MAX: nothing is). */
int64_t errlog_tell(struct errlog *l, int64_t now);

/* The process is gone: what is left is told. */
void errlog_end(struct errlog *l, int64_t now);

#endif
