/* From one generation to the next; the main thread's.
 *
 * A reload reads the file and looks its routes up beside what serves.  Whatever is
 * bad changes nothing and is told in the log.  Else a new generation starts; when it
 * listens and its first pass over every route is over (or two seconds later), the
 * older ones are told to drain.  Several may drain at once, of which RELOAD_MAX bounds
 * the number: a SIGHUP beyond it waits for one of them to end.  Signals that come
 * while one is being obeyed are obeyed once, afterwards.
 */
#ifndef STRANDD_STRANDD_RELOAD_H
#define STRANDD_STRANDD_RELOAD_H

#include "strandd/service.h"

#define RELOAD_MAX 4		/* generations at once */

/* At the start of the process. */
int reload_first(struct service *s, struct err *e) MUST_CHECK;

void reload_ask(struct service *s);	/* SIGHUP */

/* After every wait: takes over what was read, hands over, frees what has ended. */
void reload_step(struct service *s);

/* Is anything on its way, so that reload_step is to be called soon? */
bool reload_pending(const struct service *s);

/* Who serves; NULL before the first is ready. */
struct generation *reload_current(const struct service *s);

#endif
