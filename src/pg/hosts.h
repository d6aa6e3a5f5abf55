/* Of several hosts in a connection string, one at a time.
 *
 * libpq tries them in turn by itself, but has no timeout when it is polled: a silent
 * first host would be waited for until our deadline, every time.
 */
#ifndef STRANDD_PG_HOSTS_H
#define STRANDD_PG_HOSTS_H

#include <libpq-fe.h>

#include "base/err.h"

struct hosts {
	unsigned n;		/* 0: not read yet; 1: there is nothing to choose, or it is libpq's to say */
	char *host, *hostaddr, *port;	/* libpq's lists; NULL: not given */
};

/* Reads the lists from a connection that was begun, wherever libpq has them from. */
int hosts_read(struct hosts *h, PGconn *pg, struct err *e) MUST_CHECK;
void hosts_release(struct hosts *h);

/* The i-th element of a list, or its only one, for all; in `out`, NULL for NULL. */
const char *hosts_element(const char *list, unsigned i, char *out, size_t size);

#endif
