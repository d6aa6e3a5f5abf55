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
	/* Reports about numbers that libconfig gets wrong: of no use to complain of
	 * what it made of them. */
	size_t bent_from, bent_to;
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
