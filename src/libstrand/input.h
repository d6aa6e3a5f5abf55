/* A strand to be written, as its writer gave it: a JSON object of columns.
 *
 * It is looked at here (which keys, its id and tags); its text goes to the server as
 * it is, so that long integers and decimals survive.  Pure.
 */
#ifndef STRANDD_LIBSTRAND_INPUT_H
#define STRANDD_LIBSTRAND_INPUT_H

#include <stddef.h>

#include "base/err.h"
#include "libstrand/table.h"

struct input {
	const char *text;	/* borrowed */
	char *id;		/* owned, as the rest; a new one where none was given */
	char *tags;		/* JSON array; NULL: none given */
	char *columns;		/* ", "a", "b"": quoted, but for id and tags; its shape */
	bool fill_module, fill_created_at;
};

/* What the inputs of one call have in common; borrowed. */
struct input_context {
	const struct table *table;
	bool own;			/* the client's own table: its module goes there */
	const char *const *tags;
	size_t n_tags;
};

/* STRAND_EINVAL: not an object, an id or tags that are none, NULL; of a key that comes
 * twice PostgreSQL decides; STRAND_ENOMEM. */
int input_read(struct input *ret, const char *text, const struct input_context *x, struct err *e) MUST_CHECK;
void input_release(struct input *in);

/* May they go in by one statement? */
bool input_same_shape(const struct input *a, const struct input *b);

#endif
