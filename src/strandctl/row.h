/* A strand to be written, as the user gave it: a JSON object of columns.
 *
 * json-c only looks at it (is it an object, which keys, id and tags); its text
 * goes to the server as it is, so that long integers and decimals survive.
 * No database, no threads.  What is wrong with the input is STRAND_EINVAL, with its
 * place in the text; STRAND_ENOMEM.
 */
#ifndef STRANDD_STRANDCTL_ROW_H
#define STRANDD_STRANDCTL_ROW_H

#include <stdint.h>

#include <json-c/json.h>

#include "base/err.h"
#include "strandctl/target.h"

/* All strings are owned. */
struct row {
	int64_t line;		/* where it came from, 0: the command line */
	char *text;		/* the object */
	char *id;
	char *tags;		/* JSON array, NULL: none given */
	char *columns;		/* ", "name", ..." but for id and tags: its shape */
};

/* Parses and checks `text` against the table.  `tags`, an array, are added to its
 * own.  Makes an id where there is none. */
int row_parse(struct row *ret_row, const struct target *t, const char *text, size_t len, int64_t line,
	      struct json_object *tags, struct err *e) MUST_CHECK;
void row_release(struct row *r);

/* "line 17: " or "". */
void row_place(int64_t line, char *out, size_t size);

/* Reads `text` strictly as one JSON value, which the caller puts; NULL with *e set
 * ("... at column 5").  `what` begins the message. */
struct json_object *json_read(const char *text, size_t len, const char *what, struct err *e);

#endif
