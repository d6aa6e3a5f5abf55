/* Reaching a server, the first part of conn_open; private to src/pg. */
#ifndef STRANDD_PG_CONNECT_H
#define STRANDD_PG_CONNECT_H

#include "pg/wait.h"

/* A dead peer is noticed within about 25 s, by us and by the server. */
#define KEEPALIVES_IDLE_S "10"
#define KEEPALIVES_INTERVAL_S "5"
#define KEEPALIVES_COUNT "3"
#define TCP_USER_TIMEOUT_MS "25000"

/* Sets c->pg, which is the caller's to finish also on failure.  Of several hosts
 * each is tried, with its share of the time: libpq by itself waits for the first
 * one that is silent, and has no timeout of its own when it is polled. */
int connect_server(struct conn *c, int64_t deadline, struct err *e) MUST_CHECK;

#endif
