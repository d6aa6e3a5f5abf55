/* What the readers of src/conf share while a configuration is being read; private
 * to this folder.  Main thread, or any that owns what it passes.
 */
#ifndef STRANDD_CONF_READING_H
#define STRANDD_CONF_READING_H

#include <libconfig.h>

#include "conf/conf.h"
#include "conf/report.h"

struct reading {
	struct conf *conf;
	struct reports *reports;
	const char *file;	/* what is being read; kept by reading_keep_name */
	bool bent;		/* numbers of this file have been reported: see source_bent */
};

/* A setting's line in the file. */
static inline struct place reading_place(const struct reading *r, const config_setting_t *s)
{
	return (struct place){ r->file, s ? (int)config_setting_source_line(s) : 0 };
}

/* report_error at a setting. */
#define reading_error(r, s, ...) \
	report_error((r)->reports, &(const struct place[]){ reading_place(r, s) }[0], __VA_ARGS__)

/* Keeps a copy of a file's or variable's name as long as the conf; NULL (and
 * no_memory): out of memory. */
const char *reading_keep_name(struct reading *r, const char *name);

#endif
