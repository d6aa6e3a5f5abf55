/* What is wrong with a configuration: a list that every reader appends to, so that
 * one start tells all of it.  Names are quoted, places named.
 * A list belongs to one thread at a time.
 */
#ifndef STRANDD_CONF_REPORT_H
#define STRANDD_CONF_REPORT_H

#include <stdbool.h>
#include <stddef.h>

#include "base/err.h"

/* Where something was said: a line of a file, or "environment variable X". */
struct place {
	const char *where;	/* borrowed; NULL: nowhere, it is the default */
	int line;		/* 0: none */
};

struct report {
	bool warning;		/* else an error */
	struct place place;	/* `where` may be gone; compare, do not print */
	char *text;		/* "where:line: what", "where:line: warning: what" */
};

struct reports {
	struct report *list;
	size_t n, size;
	size_t n_errors;	/* also those beyond what the list takes */
	bool no_memory;		/* the list, or what is read, is not complete */
};

#define REPORTS_INIT { 0 }
#define REPORTS_MAX 100

void reports_release(struct reports *r);

void report_error(struct reports *r, const struct place *place, const char *fmt, ...) PRINTF_LIKE(3, 4);
void report_warning(struct reports *r, const struct place *place, const char *fmt, ...) PRINTF_LIKE(3, 4);
/* The text of an err whose code is STRAND_EINVAL; of STRAND_ENOMEM the mark.  0 adds
 * nothing. */
void report_err(struct reports *r, const struct place *place, int code, const struct err *e);

/* Puts them in the order of `names` (by address: what place.where borrows), those of
 * no such place last, then of lines.  What is of one line stays as it was reported. */
void reports_sort(struct reports *r, const char *const *names, size_t n);

#define QUOTE_SIZE 132

/* `text` in double quotes for a message: control characters and quotes are
 * escaped, long text is cut.  Returns `out`. */
const char *quote(char out[QUOTE_SIZE], const char *text);

#define PLACE_SIZE 300

/* "file:12", "environment variable X", "default".  Returns `out`. */
const char *place_text(char out[PLACE_SIZE], const struct place *place);

#endif
