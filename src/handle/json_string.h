/* JSON strings: what they say, and text as one.  Pure; any thread. */
#ifndef STRANDD_HANDLE_JSON_STRING_H
#define STRANDD_HANDLE_JSON_STRING_H

#include <stdbool.h>
#include <stddef.h>

#include "base/buf.h"
#include "handle/json_scan.h"

/* Inside the quotes of a value that is a string; `at` is NULL if it is none. */
struct json_span json_string_inside(struct json_span value);

/* Decodes a string without its quotes in place: no escape is shorter than what it
 * stands for.  STRAND_EPROTO: not what JSON allows; STRAND_ENOMEM. */
int json_string_decode(struct json_span *inside) MUST_CHECK;

/* The same in new memory, which the caller frees. */
int json_string_copy(struct json_span inside, char **ret_text) MUST_CHECK;

/* Does it say this? */
bool json_string_is(struct json_span inside, const char *text, size_t len);

/* Appends text, which is UTF-8, as a string with its quotes. */
void json_string_add(struct buf *out, const char *text, size_t len);

/* Appends JSON so that it is one line: a newline can only be between its tokens. */
void json_line_add(struct buf *out, const char *json, size_t len);

#endif
