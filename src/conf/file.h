/* Small files that are read whole: configurations, passwords.  Any thread.
 */
#ifndef STRANDD_CONF_FILE_H
#define STRANDD_CONF_FILE_H

#include <stdbool.h>
#include <stddef.h>

#include "base/buf.h"
#include "base/err.h"

struct file_access {
	bool open;	/* others may read it who should not know a password */
	bool by_root;	/* it is root's: its group may read it */
};

/* Adds the file's content to `text`.  STRAND_ENOENT; STRAND_EINVAL with the reason,
 * which does not name the file: not readable, a directory, more than `max` bytes,
 * a NUL byte; STRAND_ENOMEM. */
int file_read(struct buf *text, const char *path, size_t max, struct file_access *ret_access,
	      struct err *e) MUST_CHECK;

/* The command that closes it to others: "chmod 0600". */
const char *file_remedy(const struct file_access *a);

#endif
