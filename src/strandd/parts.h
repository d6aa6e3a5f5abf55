/* What the daemon is made of: started in order by the main thread, stopped by it in
 * reverse.  Everything here is the main thread's, but for what a part's own header
 * says. */
#ifndef STRANDD_STRANDD_PARTS_H
#define STRANDD_STRANDD_PARTS_H

#include "base/event.h"
#include "base/thread.h"
#include "listen/listener.h"
#include "mark/marker.h"
#include "scan/scanner.h"
#include "stats/server.h"
#include "strand/context.h"
#include "strand/suspension.h"
#include "work/again.h"
#include "work/worker.h"

/* Workers (at most 64), scanner, marker, listener. */
#define MAX_THREADS 67

/* What one thread does. */
struct body {
	struct service *service;
	thread_fn *fn;
	void *arg;
};

struct service {
	const struct conf *conf;
	int signal_fd;
	struct conn_target target;
	struct stop stop;
	struct route_table *routes;
	struct metrics *metrics;
	const char **tags, **sources;	/* labels, borrowed by the metrics */
	struct queue *queue;
	struct context context;
	struct suspensions suspensions;
	struct scanner scanner;
	struct marker marker;
	struct listener listener;
	struct again again;
	struct worker *workers;
	struct thread *worker_threads;
	struct thread scanner_thread, marker_thread, listener_thread;
	struct stats_server *stats;
	struct event done;		/* a thread has ended */
	_Atomic int threads_running;
	size_t n_bodies;
	struct body bodies[MAX_THREADS];
};

/* The number of a signal that came, 0 when none did.  SIGHUP counts as none:
 * there is nothing yet that it could ask for.  So does SIGUSR1, which is answered. */
int take_signal(struct service *s);

/* A part's start; its stop takes a part that never started. */
int start_stop(struct service *s, struct err *e) MUST_CHECK;
void stop_stop(struct service *s);
int start_routes(struct service *s, struct err *e) MUST_CHECK;
void stop_routes(struct service *s);
int start_metrics(struct service *s, struct err *e) MUST_CHECK;
void stop_metrics(struct service *s);
int start_queue(struct service *s, struct err *e) MUST_CHECK;
void stop_queue(struct service *s);
int start_stats(struct service *s, struct err *e) MUST_CHECK;
void stop_stats(struct service *s);
int start_scanner(struct service *s, struct err *e) MUST_CHECK;
void stop_scanner(struct service *s);
int start_marker(struct service *s, struct err *e) MUST_CHECK;
void stop_marker(struct service *s);
int start_workers(struct service *s, struct err *e) MUST_CHECK;
void stop_workers(struct service *s);
int start_listener(struct service *s, struct err *e) MUST_CHECK;
void stop_listener(struct service *s);

#endif
