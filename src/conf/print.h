/* --print-config: the effective configuration.
 */
#ifndef STRANDD_CONF_PRINT_H
#define STRANDD_CONF_PRINT_H

#include "base/buf.h"
#include "conf/conf.h"

/* Adds every option with its value and, in a comment, where that came from.  The text
 * is a configuration file that reads as `c`, but for the password, which is not told,
 * and routes that this instance does not serve. */
void print_conf(struct buf *out, const struct conf *c);

#endif
