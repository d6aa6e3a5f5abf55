#include "strandctl/lines.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define FIRST_SIZE (64 << 10)

void lines_init(struct lines *l, struct ctl *ctl, int fd)
{
	*l = (struct lines){ .ctl = ctl, .fd = fd };
}

void lines_release(struct lines *l)
{
	free(l->data);
}

/* Room for more bytes and a NUL: moves what is unread to the front, or grows. */
static int make_room(struct lines *l, struct err *e)
{
	size_t size = l->size ? l->size : FIRST_SIZE;
	char *data;

	if (l->start) {
		memmove(l->data, l->data + l->start, l->end - l->start);
		l->end -= l->start;
		l->scanned -= l->start;
		l->start = 0;
	}
	while (l->end + 1 >= size)
		size *= 2;
	if (size == l->size)
		return 0;
	if (l->end > LINES_MAX_BYTES)
		return err_set(e, STRAND_EFULL, "line %lld is longer than %d MB",
			       (long long)l->number + 1, LINES_MAX_BYTES >> 20);
	data = realloc(l->data, size);
	if (!data)
		return err_set(e, STRAND_ENOMEM, "out of memory");
	l->data = data;
	l->size = size;
	return 0;
}

/* 0: more bytes or the end; LINES_QUIET. */
static int read_more(struct lines *l, int quiet_ms, struct err *e)
{
	struct pollfd fds[] = { { .fd = l->fd, .events = POLLIN },
				{ .fd = l->ctl->interrupted.fd, .events = POLLIN } };
	ssize_t n;
	int ret = make_room(l, e);

	if (ret)
		return ret;
	do {
		n = poll(fds, 2, quiet_ms);
	} while (n < 0 && errno == EINTR);
	if (fds[1].revents)
		return err_set(e, STRAND_ESTOPPED, "interrupted");
	if (n == 0)
		return LINES_QUIET;
	do {
		n = read(l->fd, l->data + l->end, l->size - l->end - 1);
	} while (n < 0 && errno == EINTR);
	if (n < 0)
		return err_set(e, STRAND_ESYS, "standard input: %s", strerror(errno));
	l->eof = n == 0;
	/* The signal that ended the other side of the pipe came with its end. */
	if (l->eof && ctl_interrupted(l->ctl))
		return err_set(e, STRAND_ESTOPPED, "interrupted");
	l->end += (size_t)n;
	return 0;
}

static int take(struct lines *l, size_t len, size_t used, char **ret_line, size_t *ret_len)
{
	l->data[l->start + len] = '\0';
	*ret_line = l->data + l->start;
	*ret_len = len;
	l->start += used;
	l->scanned = l->start;
	l->bytes += (int64_t)used;
	l->number++;
	return LINES_GOT;
}

int lines_next(struct lines *l, int quiet_ms, char **ret_line, size_t *ret_len, struct err *e)
{
	for (;;) {
		char *newline = l->data ? memchr(l->data + l->scanned, '\n', l->end - l->scanned) : NULL;
		size_t len = newline ? (size_t)(newline - l->data) - l->start : l->end - l->start;
		int ret;

		if (newline)
			return take(l, len, len + 1, ret_line, ret_len);
		l->scanned = l->end;
		if (l->eof)
			return len ? take(l, len, len, ret_line, ret_len) : LINES_END;
		ret = read_more(l, quiet_ms, e);
		if (ret)
			return ret;
	}
}
