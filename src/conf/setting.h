/* Values of options from a file's settings.  libconfig takes a wrong type for an
 * absent setting: here it is an error.  Any thread that owns the struct.
 */
#ifndef STRANDD_CONF_SETTING_H
#define STRANDD_CONF_SETTING_H

#include <libconfig.h>

#include "conf/option.h"
#include "conf/reading.h"

/* Puts the setting's value, whose type must be the option's, into `base`.  A fault
 * is reported with its line; false then. */
bool setting_read(struct reading *r, const struct option *o, void *base, const config_setting_t *s);

/* "a string", "a list in ( )"; static storage. */
const char *setting_type_name(const config_setting_t *s);

#endif
