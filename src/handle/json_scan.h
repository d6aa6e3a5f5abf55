/* The members of a JSON object as spans of its text: nothing is decoded, nothing is
 * allocated, and what a member holds is the business of who reads it.  Pure.
 *
 * It sees to strings, brackets, colons and commas.  What else stands where a value may
 * stand is a word, JSON's own or not (NaN): PostgreSQL, which gets the text, refuses
 * it, and the rest of the text is not in doubt for that.
 */
#ifndef STRANDD_HANDLE_JSON_SCAN_H
#define STRANDD_HANDLE_JSON_SCAN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

#define JSON_SCAN_DEPTH 512	/* of a member's value */

/* A piece of the text; not NUL-terminated. */
struct json_span {
	char *at;
	size_t len;
};

struct json_member {
	struct json_span key;	/* without its quotes, escapes as they are */
	struct json_span value;
	size_t elements;	/* of a value that is an array or an object */
};

struct json_scan {
	char *at, *end;		/* the text: borrowed */
	bool inside;		/* of the object */
	unsigned depth;
	uint64_t objects[JSON_SCAN_DEPTH / 64];	/* which of the open brackets are braces */
};

void json_scan_init(struct json_scan *s, char *text, size_t len);

/* 1: *ret is the next member; 0: the object has ended, and so has the text;
 * STRAND_EPROTO: this is no object; STRAND_EFULL: it is nested too deep. */
int json_scan_next(struct json_scan *s, struct json_member *ret) MUST_CHECK;

/* Is the text one JSON value?  *ret is it, without the blanks around it. */
bool json_scan_value(char *text, size_t len, struct json_span *ret);

/* Is it one of another kind than an object? */
bool json_scan_other(char *text, size_t len);

#endif
