/* Reading a configuration and looking its routes up, in a thread of its own: the
 * server may take its time, and the main thread has signals to hear and a watchdog
 * to feed.  All calls by the main thread.
 */
#ifndef STRANDD_STRANDD_LOADER_H
#define STRANDD_STRANDD_LOADER_H

#include "base/event.h"
#include "base/thread.h"
#include "conf/conf.h"
#include "pg/conn.h"
#include "strand/progress.h"
#include "strand/route.h"

enum loader_mode {
	LOADER_START,	/* the configuration is given; a server that is away is waited for */
	LOADER_RESTART,	/* it is read from its file again, and the server is waited for */
	LOADER_RELOAD,	/* it is read from its file again, and the server is asked once */
};

struct loader {
	enum loader_mode mode;
	bool running;			/* from loader_start to loader_finish */
	const struct conf *given;	/* borrowed */
	struct event quit;
	struct progress progress;	/* why the server is waited for */
	struct thread thread;
	_Atomic bool ended;
	/* The outcome, once it has ended. */
	int ret;
	struct err err;
	struct conf *conf;		/* what was read; owned */
	struct route_table *routes;	/* owned; NULL on failure */
};

int loader_init(struct loader *l, struct event *news) MUST_CHECK;
void loader_release(struct loader *l);	/* not while one is running; takes a zeroed one */

/* Begins; `news` is signalled when it has ended.  `given` must live until then. */
int loader_start(struct loader *l, enum loader_mode mode, const struct conf *given, struct err *e) MUST_CHECK;
void loader_quit(struct loader *l);	/* end soon, with STRAND_ESTOPPED */
bool loader_has_ended(const struct loader *l);

/* Joins it.  0: the table, and the configuration if one was read, are the caller's.
 * STRAND_ESTOPPED: so is the configuration, if it was read and good.
 * STRAND_EINVAL: the configuration or what it names is at fault; others as
 * route_table_resolve. */
int loader_finish(struct loader *l, struct conf **ret_conf, struct route_table **ret_routes, struct err *e) MUST_CHECK;

/* Where the configuration's database is. */
struct conn_target target_of(const struct conf *c);

#endif
