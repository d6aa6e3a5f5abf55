/* A strand, however it came, as a view of its row: the text and where its columns stand in it.
 *
 * Nothing is decoded before it is asked for.  One thread at a time.
 */
#ifndef STRANDD_LIBSTRAND_VIEW_H
#define STRANDD_LIBSTRAND_VIEW_H

#include <stdbool.h>

#include "base/err.h"
#include "handle/json_scan.h"
#include "strand/data.h"

struct view_column {
	struct json_span name, value;
	char *text, *json;	/* owned; NULL: nobody asked yet */
};

struct strand {
	const char *json, *tag, *source;	/* borrowed */
	int attempt;
	int64_t deadline;		/* clock_now() based; INT64_MAX: none */
	struct json_span id;	/* as JSON, with its quotes */
	char *id_text;			/* owned */
	struct view_column *columns;
	size_t n, size;
};

/* Makes it the strand of this row, a JSON object that it borrows; the memory of what it
 * held before is used again.  Whoever reads strand_json ended it with NUL.
 * STRAND_EPROTO: no row, or one without an id; STRAND_ENOMEM. */
int view_row(struct strand *s, const char *json, size_t len) MUST_CHECK;

void view_forget(struct strand *s);		/* what was asked for; keeps the memory */
void view_release(struct strand *s);		/* takes zeroed ones */

#endif
