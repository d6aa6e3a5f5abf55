/* Versions of PostgreSQL and libpq with faults that strandd meets.  Pure.
 *
 * A row is here because of what strandd does: it builds indexes concurrently, listens,
 * quotes identifiers with libpq, and hands large rows to handlers.  Faults of other
 * parts of the server are the server's release notes' to tell.
 */
#ifndef STRANDD_STRANDCTL_KNOWN_BAD_H
#define STRANDD_STRANDCTL_KNOWN_BAD_H

#include <stddef.h>

struct known_bad {
	int from, below;	/* as PQserverVersion: 150018 */
	const char *what, *remedy;
};

/* The next fault of this version from *at on, and *at behind it; NULL: no more. */
const struct known_bad *known_bad_server(int version, size_t *at);
const struct known_bad *known_bad_libpq(int version, size_t *at);

#endif
