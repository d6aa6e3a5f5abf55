/* Log lines on standard error, one event a line.
 *
 * Low layers return errors; the stage that decides what happens next logs once.
 * Any thread may log; a line is one write(2), so lines never mix.
 * Form: `LEVEL thread: text`, with systemd's `<N>` prefix when JOURNAL_STREAM
 * names standard error.
 */
#ifndef STRANDD_BASE_LOG_H
#define STRANDD_BASE_LOG_H

#include "base/err.h"

enum log_level { LOG_LEVEL_ERROR, LOG_LEVEL_WARNING, LOG_LEVEL_INFO, LOG_LEVEL_DEBUG };
enum log_format { LOG_FORMAT_AUTO, LOG_FORMAT_TEXT, LOG_FORMAT_JOURNAL, LOG_FORMAT_JSON };

/* Lines above this level are dropped.  Default LOG_LEVEL_INFO.  Any thread. */
void log_set_level(enum log_level level);

/* "error", "warning", "info", "debug" to level; STRAND_EINVAL for other text. */
int log_level_parse(const char *text, enum log_level *ret_level) MUST_CHECK;

void log_write(enum log_level level, const char *fmt, ...) PRINTF_LIKE(2, 3);

#define log_error(...) log_write(LOG_LEVEL_ERROR, __VA_ARGS__)
#define log_warning(...) log_write(LOG_LEVEL_WARNING, __VA_ARGS__)
#define log_info(...) log_write(LOG_LEVEL_INFO, __VA_ARGS__)
#define log_debug(...) log_write(LOG_LEVEL_DEBUG, __VA_ARGS__)

#endif
