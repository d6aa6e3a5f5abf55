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

#endif
