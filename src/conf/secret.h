/* Passwords: in a file of their own, or in a configuration that nobody else reads.
 */
#ifndef STRANDD_CONF_SECRET_H
#define STRANDD_CONF_SECRET_H

#include "conf/file.h"
#include "conf/reading.h"

/* Reads password_file, if one is given, into db_password.  `client`: a file that may
 * not be read is passed over. */
void secret_read(struct reading *r, bool client);

/* Reports a setting that says a secret in a file that others can read. */
void secret_check(struct reading *r, const config_t *config, const struct file_access *access);
/* The same of a text that does not parse, as far as that can be told. */
void secret_check_text(struct reading *r, const char *text, const struct file_access *access);

/* Does the text hold a secret's name?  Then nothing of it may be told. */
bool secret_in_text(const char *text);
/* Does line `line` (from 1) of a file's text, or the setting that goes on in it? */
bool secret_in_line(const char *text, int line);

#endif
