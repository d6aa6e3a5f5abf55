/* What a handler answers to one strand.
 *
 * The answer is written straight into the stream's buffer, and taken back if the
 * strand fails in the end.
 */
#ifndef STRANDD_LIBSTRAND_REPLIES_H
#define STRANDD_LIBSTRAND_REPLIES_H

#include "libstrand/row.h"
#include "libstrand/stream.h"
#include "libstrand/view.h"
#include "strand/handler.h"

struct strand_replies {
	struct stream *stream;
	const struct strand *strand;
	size_t begin;			/* of this strand's answer in the stream's buffer */
	unsigned n;			/* replies so far */
	struct strand_row row;		/* the one that is being filled in */
	bool row_open;
	bool failed, final;
	bool flushed;			/* by the function: its own answer is not to wait either */
	struct buf why;			/* of a failure */
};

void replies_init(struct strand_replies *r, struct stream *s);
void replies_release(struct strand_replies *r);

/* Around the handler's function.  _end appends the answer: `code` is what the function
 * returned.  STRAND_ENOMEM. */
void replies_begin(struct strand_replies *r, const struct strand *strand);
int replies_end(struct strand_replies *r, int code, struct err *e) MUST_CHECK;

#endif
