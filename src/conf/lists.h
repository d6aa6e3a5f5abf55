/* The lists `modules` and `routes` of the configuration's files, which are joined.
 */
#ifndef STRANDD_CONF_LISTS_H
#define STRANDD_CONF_LISTS_H

#include <libconfig.h>

#include "conf/reading.h"

/* Adds the specification's three modules; STRAND_ENOMEM. */
int lists_default_modules(struct conf *c) MUST_CHECK;

/* Each adds what a list's setting holds. */
void lists_read_modules(struct reading *r, const config_setting_t *list);
void lists_read_routes(struct reading *r, const config_setting_t *list);

void lists_release(struct conf *c);

#endif
