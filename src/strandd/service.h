/* The daemon: what lives as long as the process, and the generations that serve.
 *
 * The main thread only waits and decides: signals, the service manager and its
 * watchdog, threads that have ended, a configuration that was read.  It never waits
 * for a thread or for the server.
 */
#ifndef STRANDD_STRANDD_SERVICE_H
#define STRANDD_STRANDD_SERVICE_H

#include <pthread.h>

#include "conf/conf.h"
#include "stats/server.h"
#include "strandd/generation.h"
#include "strandd/loader.h"
#include "strandd/notify.h"

/* All the main thread's, but for the list of generations, which the stats thread
 * reads under the lock, and what is atomic.  The lock is a leaf, and not on a strand's way. */
struct service {
	const struct conf *origin;	/* what the process was started with; borrowed */
	int signal_fd;
	struct event news;		/* a thread has something to tell */
	struct notify notify;
	struct metrics *metrics;
	struct cleaner_past cleaner_past;
	struct stats_server *stats;
	struct supervisor *supervisor;	/* of all generations' processes */
	struct loader loader;
	bool reload_asked;		/* SIGHUP came, and nothing was begun yet */
	bool put_off_told;
	struct conf *pending;		/* read again before anything was served; owned */
	pthread_mutex_t lock;		/* of the list */
	struct generation *generations;	/* the newest first */
	unsigned n_generations, last_number;
	enum stop_level level;
	int64_t deadline;		/* clock_now() based: STOP_NOW then; 0: none */
	int code;			/* enum exit_code */
};

/* Looks the routes up, waiting for the server if it must, serves, reads the
 * configuration again on SIGHUP, and returns when it was told to stop.  `signal_fd`
 * is a non-blocking signalfd(2) of SIGTERM, SIGINT, SIGHUP, SIGUSR1 and SIGUSR2, all blocked.
 * Returns an enum exit_code.  Main thread only. */
int service_run(const struct conf *conf, int signal_fd);

/* Tells everything to stop. */
void service_stop(struct service *s, enum stop_level level);

#endif
