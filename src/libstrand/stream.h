/* The handler's two ends of the conversation with strandd: lines in, answers out.
 *
 * Standard input and output are moved to descriptors of our own, which no program that
 * the handler runs inherits; in their places come /dev/null and standard error.
 * One thread; there is one of these in a process.
 */
#ifndef STRANDD_LIBSTRAND_STREAM_H
#define STRANDD_LIBSTRAND_STREAM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"

struct stream {
	int in, out;		/* -1: not moved */
	char *data;		/* what was read: lines that nobody took, and the begin of one */
	size_t from, seen, to, size;
	struct buf answers;	/* not written yet */
	int64_t held_since;	/* clock_now() when the strand of the oldest of them was begun; 0: none */
};

/* Each at most once.  STRAND_ESYS. */
int stream_move_output(struct stream *s, struct err *e) MUST_CHECK;
int stream_move_input(struct stream *s, struct err *e) MUST_CHECK;
void stream_close(struct stream *s);	/* what came in their places stays */

/* The next line, which ends with NUL and may be changed; borrowed until the next call.
 * Answers that are held back are written before it waits.  `stop_fd`: readable when it
 * is to end.  1: a line; 0: end of input, or told to stop; STRAND_ESYS, STRAND_ENOMEM,
 * STRAND_ECONN. */
int stream_line(struct stream *s, int stop_fd, char **ret_line, size_t *ret_len, struct err *e) MUST_CHECK;

/* After an answer was appended to s->answers, for a strand that was begun at `began`:
 * writes it, or holds it back, as long as the next strand takes at most.  What took long
 * is never held back: strandd counts the next strand's time from that answer. */
int stream_answered(struct stream *s, int64_t began, bool at_once, struct err *e) MUST_CHECK;
int stream_flush(struct stream *s, struct err *e) MUST_CHECK;

#endif
