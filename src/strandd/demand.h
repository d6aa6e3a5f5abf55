/* How many connections the configuration needs, and whether the server has them. */
#ifndef STRANDD_STRANDD_DEMAND_H
#define STRANDD_STRANDD_DEMAND_H

#include "conf/conf.h"
#include "pg/conn.h"

/* Workers, scanner, listener, marker, cleaner: each has one at most. */
int demand_connections(const struct conf *conf);

/* Logs the number, and warns when it does not fit into the server's max_connections
 * less the reserved ones, or the CONNECTION LIMIT of the database or role, beside the
 * sessions that are there.  Takes two statements' time; what cannot be asked is passed
 * over.  On a connection outside a transaction. */
void demand_check(const struct conf *conf, struct conn *c);

#endif
