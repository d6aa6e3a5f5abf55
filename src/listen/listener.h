/* The listener thread: one connection that only LISTENs.
 *
 * It is never inside a transaction and always drains its socket: a listener
 * that stalls fills the server's notification queue, and then other people's
 * COMMITs fail.  A notification is only a hint; one that the queue has no room
 * for leaves a mark for the scanner, as does a connection that was lost.
 */
#ifndef STRANDD_LISTEN_LISTENER_H
#define STRANDD_LISTEN_LISTENER_H

#include "listen/channels.h"
#include "scan/scanner.h"
#include "strand/context.h"

struct listener {
	const struct context *context;
	struct scanner *scanner;	/* borrowed: told what was missed */
	struct channels channels;
};

int listener_init(struct listener *l, const struct context *x, struct scanner *s) MUST_CHECK;
void listener_run(void *listener);	/* thread body; until STOP_DRAIN */
void listener_release(struct listener *l);

#endif
