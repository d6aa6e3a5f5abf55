#include "handle/line_reader.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

#define KEEP 1048576	/* bytes of memory that an empty buffer may keep */

void line_reader_init(struct line_reader *l, size_t max)
{
	*l = (struct line_reader){ .max = max };
}

void line_reader_release(struct line_reader *l)
{
	buf_release(&l->in);
	l->begin = l->seen = 0;
}

/* Moves the line that is not whole yet to the front. */
static void make_room(struct line_reader *l)
{
	size_t left = l->in.len - l->begin;

	if (!left && l->in.size > KEEP)
		buf_release(&l->in);
	else if (l->begin)
		memmove(l->in.data, l->in.data + l->begin, left);
	l->in.len = left;
	l->seen -= l->begin;
	l->begin = 0;
}

int line_reader_read(struct line_reader *l, int fd)
{
	char piece[LINE_READER_PIECE];
	ssize_t n = read(fd, piece, sizeof(piece));

	if (n < 0 && errno == EINTR)
		return 0;
	if (n < 0)
		return errno == EAGAIN ? STRAND_ETIMEOUT : STRAND_ESYS;
	if (n == 0)
		return STRAND_ECONN;
	make_room(l);
	buf_add(&l->in, piece, (size_t)n);
	return l->in.failed ? STRAND_ENOMEM : 0;
}

int line_reader_next(struct line_reader *l, char **ret_line, size_t *ret_len)
{
	size_t left = l->in.len - l->seen;
	char *newline = left ? memchr(l->in.data + l->seen, '\n', left) : NULL;
	size_t end = newline ? (size_t)(newline - l->in.data) : l->in.len, len = end - l->begin;

	l->seen = end;
	if (!newline && len <= l->max)
		return 0;
	*ret_line = l->in.data + l->begin;
	*ret_len = len;
	if (len > l->max)
		return STRAND_EFULL;
	l->begin = l->seen = end + 1;
	return 1;
}
