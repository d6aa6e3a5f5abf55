#include "base/buf.h"

#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Makes room for `more` bytes and the NUL. */
static bool buf_reserve(struct buf *b, size_t more)
{
	size_t need, size;
	char *data;

	if (b->failed)
		return false;
	if (more >= SIZE_MAX - b->len)
		goto fail;
	need = b->len + more + 1;
	if (need <= b->size)
		return true;
	size = b->size > SIZE_MAX / 2 ? need : b->size * 2;
	if (size < need)
		size = need;
	if (size < 64)
		size = 64;
	data = realloc(b->data, size);
	if (!data)
		goto fail;
	if (!b->data)
		data[0] = '\0';
	b->data = data;
	b->size = size;
	return true;
fail:
	b->failed = true;
	return false;
}

void buf_init(struct buf *b)
{
	*b = (struct buf)BUF_INIT;
	buf_reserve(b, 0);
}

void buf_release(struct buf *b)
{
	free(b->data);
	*b = (struct buf)BUF_INIT;
}

void buf_clear(struct buf *b)
{
	b->len = 0;
	b->failed = false;
	if (b->data)
		b->data[0] = '\0';
	else
		buf_reserve(b, 0);
}

void buf_add(struct buf *b, const void *data, size_t len)
{
	if (!buf_reserve(b, len))
		return;
	if (len)
		memcpy(b->data + b->len, data, len);
	b->len += len;
	b->data[b->len] = '\0';
}

void buf_adds(struct buf *b, const char *text)
{
	buf_add(b, text, strlen(text));
}

void buf_addf(struct buf *b, const char *fmt, ...)
{
	va_list args, again;
	int len;

	if (!buf_reserve(b, 0))
		return;
	va_start(args, fmt);
	va_copy(again, args);
	len = vsnprintf(b->data + b->len, b->size - b->len, fmt, args);
	va_end(args);
	if (len < 0) {
		b->failed = true;
		b->data[b->len] = '\0';
	} else if ((size_t)len < b->size - b->len) {
		b->len += (size_t)len;
	} else if (buf_reserve(b, (size_t)len)) {
		vsnprintf(b->data + b->len, b->size - b->len, fmt, again);
		b->len += (size_t)len;
	} else {
		b->data[b->len] = '\0';
	}
	va_end(again);
}

char *buf_steal(struct buf *b)
{
	char *data = NULL;

	if (buf_reserve(b, 0)) {
		data = b->data;
		b->data = NULL;
	}
	buf_release(b);
	return data;
}
