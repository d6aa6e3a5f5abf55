#include "pg/array.h"

void array_begin(struct buf *b)
{
	buf_add(b, "{", 1);
}

void array_item(struct buf *b, const char *text, size_t len)
{
	size_t from = 0;

	buf_adds(b, b->len && b->data[b->len - 1] == '{' ? "\"" : ",\"");
	for (size_t i = 0; i < len; i++) {
		if (text[i] != '"' && text[i] != '\\')
			continue;
		buf_add(b, text + from, i - from);
		buf_add(b, "\\", 1);
		from = i;
	}
	buf_add(b, text + from, len - from);
	buf_add(b, "\"", 1);
}

void array_end(struct buf *b)
{
	buf_add(b, "}", 1);
}
