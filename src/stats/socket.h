/* A listening Unix socket in the file system, taken over from the dead only.
 * Owned by one thread at a time.
 */
#ifndef STRANDD_STATS_SOCKET_H
#define STRANDD_STATS_SOCKET_H

#include <sys/types.h>
#include <sys/un.h>

#include "base/err.h"

struct unix_socket {
	int fd;				/* listening, non-blocking, close-on-exec */
	struct sockaddr_un addr;
	dev_t dev;			/* of the file that we made */
	ino_t ino;
};

/* Errors as stats_server_start says. */
int unix_socket_listen(struct unix_socket *s, const char *path, struct err *e) MUST_CHECK;

/* Removes the file if it is still ours.  The descriptor is left alone. */
void unix_socket_unlink(struct unix_socket *s);

#endif
