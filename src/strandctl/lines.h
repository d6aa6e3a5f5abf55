/* Lines of a file or pipe, with a user who may interrupt. */
#ifndef STRANDD_STRANDCTL_LINES_H
#define STRANDD_STRANDCTL_LINES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "strandctl/ctl.h"

/* No value of PostgreSQL's is longer. */
#define LINES_MAX_BYTES (256 << 20)

struct lines {
	struct ctl *ctl;
	int fd;
	char *data;
	size_t size, start, scanned, end;	/* the unread part; `scanned` holds no newline */
	bool eof;
	int64_t number;		/* of the line that lines_next returned last */
	int64_t bytes;		/* of all lines that were returned */
};

void lines_init(struct lines *l, struct ctl *ctl, int fd);
void lines_release(struct lines *l);

enum lines_answer { LINES_GOT = 1, LINES_END = 0, LINES_QUIET = 2 };

/* The next line without its newline, NUL-terminated, borrowed until the next
 * call.  LINES_QUIET: nothing came within `quiet_ms` (-1: wait for ever).
 * STRAND_ESTOPPED, STRAND_ESYS, STRAND_EFULL (too long), STRAND_ENOMEM. */
int lines_next(struct lines *l, int quiet_ms, char **ret_line, size_t *ret_len, struct err *e) MUST_CHECK;

#endif
