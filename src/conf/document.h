/* Texts made from the option tables: the sample configuration, and the manual's
 * section.  `make documents` writes them, a test compares them.
 */
#ifndef STRANDD_CONF_DOCUMENT_H
#define STRANDD_CONF_DOCUMENT_H

#include "base/buf.h"

/* conf/strandd.conf: every setting commented out, with its default or an example. */
void document_sample(struct buf *out);

/* The settings as troff, for man/strandd.8, between the two lines. */
#define DOCUMENT_BEGIN ".\\\" Made by `make documents' from here\n"
#define DOCUMENT_END ".\\\" to here\n"
void document_manual(struct buf *out);

#endif
