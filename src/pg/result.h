/* What a server's answer says of a fault.  Pure; any thread. */
#ifndef STRANDD_PG_RESULT_H
#define STRANDD_PG_RESULT_H

#include <libpq-fe.h>

#include "base/err.h"

/* 0 for a good result; else STRAND_ESQL, STRAND_EPROTO, or STRAND_ECONN: it ended the
 * session, even while the socket still looks alive. */
int result_error(const PGresult *res, struct err *e);

#endif
