/* Log lines, one event a line.
 *
 * Low layers return errors; the stage that decides what happens next logs once.
 * Any thread may log.
 * What is about a strand or a route says so in fields, not in its text, so that
 * programs need not read prose:
 *     log_event(LOG_LEVEL_WARNING, &(struct log_fields){ .route = tag, .strand = id,
 *               .attempt = 2, .sqlstate = e.sqlstate }, "strand failed: %s", e.text);
 */
#ifndef STRANDD_BASE_LOG_H
#define STRANDD_BASE_LOG_H

#include <stdint.h>

#include "base/err.h"

enum log_level { LOG_LEVEL_ERROR, LOG_LEVEL_WARNING, LOG_LEVEL_INFO, LOG_LEVEL_DEBUG };

enum log_format {
	LOG_FORMAT_AUTO,	/* JOURNAL when standard error is the journal, else TEXT */
	LOG_FORMAT_TEXT,	/* LEVEL thread: text key=value ... */
	LOG_FORMAT_JOURNAL,	/* systemd's journal, with fields; TEXT while it does not answer */
	LOG_FORMAT_JSON,	/* one object a line */
};

/* Which lines are repetitions of each other.  Of those the first few of a minute
 * are written, the others counted and told in one line; debug lines all are. */
enum log_fold {
	LOG_FOLD_KIND,	/* the same format, route, source and SQLSTATE, whatever the strand */
	LOG_FOLD_TEXT,	/* the same text as well */
	LOG_FOLD_ONCE,	/* the same text as well, and the first only */
	LOG_FOLD_NEVER,	/* none: an answer to somebody who asked */
};

/* NULL, "" and 0: the line has no such field.  All is copied. */
struct log_fields {
	const char *route;	/* its tag */
	const char *source;	/* its source table, for a tag that several have */
	const char *strand;	/* the id */
	int attempt;		/* from 1 */
	const char *sqlstate;
	enum log_fold fold;
};

/* From here on a thread of the log's own writes, so that a reader who stalls, or a disk
 * that is full, holds up nobody, and repetitions are folded.  Until then, and after
 * log_stop, who logs writes the line itself, and waits half a second at most.
 * log_stop, which is also done at exit(3), writes what is left, for at most two
 * seconds.  Main thread. */
int log_start(struct err *e) MUST_CHECK;
void log_stop(void);

/* Lines above this level are dropped.  Default LOG_LEVEL_INFO.  Any thread. */
void log_set_level(enum log_level level);

/* Default LOG_FORMAT_AUTO.  Any thread. */
void log_set_format(enum log_format format);

/* The number in the receipts of the configuration that serves, from now on a field of
 * each line; 0: none (yet).  Any thread. */
void log_set_instance(int64_t instance);

/* What the values of the two enums are called, in their order; end with NULL. */
extern const char *const log_level_names[], *const log_format_names[];

/* "auto", "text", "journal", "json" to format; STRAND_EINVAL for other text. */
int log_format_parse(const char *text, enum log_format *ret_format) MUST_CHECK;

/* `fields` may be NULL.  Returns a number for the line's kind, for log_renew; 0 when
 * it is not one that is folded. */
uint64_t log_event(enum log_level level, const struct log_fields *fields, const char *fmt, ...)
	PRINTF_LIKE(3, 4);

/* What a line of LOG_FOLD_ONCE told is over: when it happens again, it is told again,
 * though not without end within a minute.  Nothing for 0. */
void log_renew(uint64_t kind);

/* Events without fields, LOG_FOLD_TEXT. */
#define log_plain(level, ...) \
	log_event(level, &(const struct log_fields){ .fold = LOG_FOLD_TEXT }, __VA_ARGS__)
#define log_error(...) log_plain(LOG_LEVEL_ERROR, __VA_ARGS__)
#define log_warning(...) log_plain(LOG_LEVEL_WARNING, __VA_ARGS__)
#define log_info(...) log_plain(LOG_LEVEL_INFO, __VA_ARGS__)
#define log_debug(...) log_plain(LOG_LEVEL_DEBUG, __VA_ARGS__)

#endif
