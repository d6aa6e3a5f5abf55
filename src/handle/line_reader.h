/* Lines out of a pipe whose writer is not trusted: never more than a line's bound, and
 * one piece read at a time, is held in memory.
 * Owned by one thread at a time.
 */
#ifndef STRANDD_HANDLE_LINE_READER_H
#define STRANDD_HANDLE_LINE_READER_H

#include "base/buf.h"
#include "base/err.h"

#define LINE_READER_PIECE 65536	/* bytes: what a pipe holds as a rule */

struct line_reader {
	struct buf in;
	size_t begin;		/* of the line that is next */
	size_t seen;		/* no '\n' between the two */
	size_t max;		/* bytes of a line */
};

void line_reader_init(struct line_reader *l, size_t max);
void line_reader_release(struct line_reader *l);

/* Reads once, without waiting if `fd` is non-blocking.  0: something came, or is to be
 * tried again; STRAND_ETIMEOUT: nothing is there now; STRAND_ECONN: the writers have
 * closed it; STRAND_ESYS (errno); STRAND_ENOMEM. */
int line_reader_read(struct line_reader *l, int fd) MUST_CHECK;

/* 1: the next whole line, without its '\n', until the next line_reader_read; 0: there is
 * none yet; STRAND_EFULL: it is over the bound, and what there is of it is its
 * beginning. */
int line_reader_next(struct line_reader *l, char **ret_line, size_t *ret_len) MUST_CHECK;

#endif
