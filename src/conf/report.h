/* Messages about a configuration file: "file:line: text", names quoted.
 * Pure functions: any thread.
 */
#ifndef STRANDD_CONF_REPORT_H
#define STRANDD_CONF_REPORT_H

#include <libconfig.h>

#include "base/err.h"
#include "conf/option.h"

#define QUOTE_SIZE 132

/* `text` in double quotes for a message: control characters and quotes are
 * escaped, long text is cut.  Returns `out`. */
const char *quote(char out[QUOTE_SIZE], const char *text);

/* Fills *e with "file:line: ..." and returns STRAND_EINVAL.  The setting (NULL:
 * no line) gives the line. */
int report(struct err *e, const char *file, const config_setting_t *s, const char *fmt, ...)
	PRINTF_LIKE(4, 5);
int report_line(struct err *e, const char *file, int line, const char *fmt, ...)
	PRINTF_LIKE(4, 5);

/* value_read with "file:line: " before the fault. */
int setting_read(const struct option *o, void *base, const config_setting_t *s, const char *file,
		 struct err *e) MUST_CHECK;

/* "a string", "a list in ( )"; static storage. */
const char *setting_type_name(const config_setting_t *s);

#endif
