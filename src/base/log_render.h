/* A record as a line of text, with its newline.  Pure.  Private to src/base/log*.
 *
 * Whatever a strand's id or an error's text holds, a record is one line: control
 * characters, and letters that would reorder or break the line on a terminal, are
 * written as \n, \r, \t or \u001b in every form. */
#ifndef STRANDD_BASE_LOG_RENDER_H
#define STRANDD_BASE_LOG_RENDER_H

#include <stdbool.h>

#include "base/buf.h"
#include "base/log_record.h"

/* `LEVEL thread: message key=value ...`, a value in quotes where it is more than a
 * plain word; at most 4 KiB, which a pipe takes in one piece.  `prefix`: with the
 * `<N>` of sd-daemon(3) before it. */
void log_render_text(struct buf *out, const struct log_record *r, bool prefix);

/* One JSON object.  Sets out->failed when out of memory. */
void log_render_json(struct buf *out, const struct log_record *r);

/* Appends `text`, which is whole UTF-8, with its control characters escaped, and, if
 * `quoted`, '"' and '\' too; ends with "..." near `limit` bytes. */
void log_escape(struct buf *out, const char *text, bool quoted, size_t limit);

#endif
