#include "libstrand/replies.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "base/utf8.h"
#include "libstrand/text.h"

/* Of an error's text: the service keeps less. */
enum { WHY_BYTES = 4000 };

void replies_init(struct strand_replies *r, struct stream *s)
{
	*r = (struct strand_replies){ .stream = s };
	row_init(&r->row);
	buf_init(&r->why);
}

void replies_release(struct strand_replies *r)
{
	row_release(&r->row);
	buf_release(&r->why);
}

/* {"id":...,"attempt":1 */
static void begin_answer(struct strand_replies *r)
{
	struct buf *out = &r->stream->answers;

	r->begin = out->len;
	buf_adds(out, "{\"id\":");
	buf_add(out, r->strand->id.at, r->strand->id.len);
	buf_addf(out, ",\"attempt\":%d", r->strand->attempt);
}

void replies_begin(struct strand_replies *r, const struct strand *strand)
{
	r->strand = strand;
	r->n = 0;
	r->row_open = r->failed = r->final = r->flushed = false;
	buf_clear(&r->why);
	begin_answer(r);
	buf_adds(&r->stream->answers, ",\"replies\":[");
}

static void fail(struct strand_replies *r, bool final, const char *why)
{
	/* The first reason is the one to tell. */
	if (r->failed)
		return;
	r->failed = true;
	r->final = final;
	buf_adds(&r->why, why);
}

static void add_text(struct strand_replies *r, const char *json, size_t len)
{
	struct buf *out = &r->stream->answers;

	if (r->n++)
		buf_adds(out, ",");
	json_line_add(out, json, len);
}

/* The row that is being filled in, if there is one, is a reply now. */
static void close_row(struct strand_replies *r)
{
	struct err e;
	char why[sizeof(e.text) + 32];
	const char *json;

	if (!r->row_open)
		return;
	r->row_open = false;
	json = row_finish(&r->row, &e);
	if (json) {
		add_text(r, json, strlen(json));
		return;
	}
	snprintf(why, sizeof(why), "reply %u: %s", r->n + 1, e.text);
	fail(r, false, why);
}

struct strand_row *strand_replies_row(struct strand_replies *r)
{
	close_row(r);
	strand_row_clear(&r->row);
	r->row_open = true;
	return &r->row;
}

int strand_replies_add(struct strand_replies *r, const char *json)
{
	size_t len = json ? strlen(json) : 0;
	struct err e;
	char why[sizeof(e.text) + 48];

	close_row(r);
	if (json && !text_check_object(json, len, &e)) {
		add_text(r, json, len);
		return 0;
	}
	snprintf(why, sizeof(why), "reply %u is %s%s", r->n + 1, json ? "not a JSON object: " : "NULL", json ? e.text : "");
	fail(r, false, why);
	return STRAND_EINVAL;
}

int strand_replies_fail(struct strand_replies *r, int final, const char *format, ...)
{
	char text[WHY_BYTES];
	va_list args;

	va_start(args, format);
	if (vsnprintf(text, sizeof(text), format, args) < 0)
		snprintf(text, sizeof(text), "%s", format);
	va_end(args);
	/* It may have been cut in the middle of a letter. */
	utf8_mend(text);
	fail(r, final != 0, text);
	return STRAND_EINVAL;
}

/* The answer that is being written stays behind. */
int strand_replies_flush(struct strand_replies *r)
{
	struct buf *out = &r->stream->answers;
	struct buf own = BUF_INIT;
	struct err e;
	int ret;

	r->flushed = true;
	buf_init(&own);
	buf_add(&own, out->data + r->begin, out->failed ? 0 : out->len - r->begin);
	if (out->failed || own.failed) {
		buf_release(&own);
		return STRAND_ENOMEM;
	}
	out->len = r->begin;
	ret = stream_flush(r->stream, &e);
	r->stream->held_since = 0;
	buf_add(out, own.data, own.len);
	r->begin = 0;
	buf_release(&own);
	return ret;
}

static void end_failed(struct strand_replies *r)
{
	struct buf *out = &r->stream->answers;

	out->len = r->begin;
	begin_answer(r);
	buf_adds(out, ",\"error\":");
	json_string_add(out, r->why.data, r->why.len);
	buf_adds(out, r->final ? ",\"retry\":false}\n" : "}\n");
}

int replies_end(struct strand_replies *r, int code, struct err *e)
{
	struct buf *out = &r->stream->answers;
	char why[64];

	close_row(r);
	snprintf(why, sizeof(why), "the handler returned %d", code);
	if (code)
		fail(r, false, why);
	if (out->failed || r->why.failed)
		return err_set(e, STRAND_ENOMEM, "out of memory for the answer to a strand");
	if (r->failed)
		end_failed(r);
	else
		buf_adds(out, "]}\n");
	return out->failed ? err_set(e, STRAND_ENOMEM, "out of memory for the answer to a strand") : 0;
}
