/* Listings: tables and trees for people, JSON for programs, through libsmartcols.
 *
 * One array of columns serves both; a column may be for one of them only.
 * On a terminal no line is longer than the terminal is wide: COLUMN_WRAP gets
 * narrower down to its longest word, then all columns do, by cutting words in two
 * or (COLUMN_WRAP) short.  Elsewhere nothing is.
 * Out of memory ends the program: nothing is left half done by a listing.
 */
#ifndef STRANDD_STRANDCTL_TABLE_H
#define STRANDD_STRANDCTL_TABLE_H

#include <stdbool.h>
#include <stddef.h>

#include <libsmartcols.h>

enum column_kind {
	COLUMN_TEXT,
	COLUMN_NUMBER,		/* aligned right; in JSON a number */
	COLUMN_BOOLEAN,		/* "t" or "f" as PostgreSQL says it */
	COLUMN_JSON,		/* JSON text, printed as it is */
	COLUMN_TREE,
	COLUMN_WRAP,		/* goes on in the next line at a newline, at a blank if need be */
	COLUMN_TIME,		/* COLUMN_WRAP; for people to the second */
};

enum column_for { FOR_BOTH, FOR_PEOPLE, FOR_PROGRAMS };

struct column {
	const char *title;	/* "ORDER ID"; as a JSON key "order_id" */
	enum column_kind kind;
	enum column_for whom;
};

struct table;
struct libscols_line;

/* `name` is the key of the rows' array in JSON.  Borrows the columns. */
struct table *table_new(const char *name, bool json, const struct column *columns, size_t n_columns);
void table_free(struct table *t);

/* A new row, under `parent` in a tree or NULL; owned by the table. */
struct libscols_line *table_row(struct table *t, struct libscols_line *parent);

/* Copies `data`; NULL is an empty cell, null in JSON.  Nothing when the column
 * is not for this audience. */
void table_set(struct table *t, struct libscols_line *row, size_t column, const char *data);

/* A new row with a value for each column. */
void table_fill(struct table *t, const char *const *values);

/* To standard output. */
void table_print(struct table *t);

/* JSON with one row to standard output: what a command that changes something has
 * done.  A value for each column, all of them for programs. */
void table_print_one(const char *name, const struct column *columns, size_t n_columns,
		     const char *const *values);

/* The rows of a JSON table as one JSON array, indented for a COLUMN_JSON of
 * table_print_one; the caller frees it. */
char *table_rows_json(struct table *t);

#endif
