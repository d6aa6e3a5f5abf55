/* A growing, always NUL-terminated byte buffer.
 * Owned by one thread at a time.  A failed append marks the buffer (`failed`)
 * and later appends do nothing, so a caller checks once, at the end.
 */
#ifndef STRANDD_BASE_BUF_H
#define STRANDD_BASE_BUF_H

#include <stdbool.h>
#include <stddef.h>

#include "base/err.h"

struct buf {
	char *data;	/* never NULL after buf_init unless failed */
	size_t len;
	size_t size;
	bool failed;	/* out of memory: the content is not complete */
};

#define BUF_INIT { 0 }

void buf_init(struct buf *b);
void buf_release(struct buf *b);		/* takes NULL-filled buffers too */
void buf_clear(struct buf *b);			/* keeps the memory; for tests and benchmarks */
void buf_add(struct buf *b, const void *data, size_t len);
void buf_adds(struct buf *b, const char *text);
void buf_addf(struct buf *b, const char *fmt, ...) PRINTF_LIKE(2, 3);
char *buf_steal(struct buf *b);			/* returns the data, caller frees; NULL if failed */

#endif
