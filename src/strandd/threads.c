/* The parts that are threads. */
#include "strandd/parts.h"

#include <stdio.h>
#include <stdlib.h>

/* Tells the main thread when the last one has ended, so that it can join without
 * waiting blindly and still hear a second signal. */
static void body_run(void *arg)
{
	struct body *body = arg;
	struct service *s = body->service;

	body->fn(body->arg);
	/* acq_rel: what the thread did is seen by who sees it gone */
	atomic_fetch_sub_explicit(&s->threads_running, 1, memory_order_acq_rel);
	event_signal(&s->done);
}

static int start_thread(struct service *s, struct thread *t, const char *name, thread_fn *fn,
			void *arg, struct err *e)
{
	struct body *body = &s->bodies[s->n_bodies++];
	int ret;

	*body = (struct body){ .service = s, .fn = fn, .arg = arg };
	/* relaxed: the thread that lowers it is not started yet */
	atomic_fetch_add_explicit(&s->threads_running, 1, memory_order_relaxed);
	ret = thread_start(t, name, body_run, body, e);
	if (ret)
		atomic_fetch_sub_explicit(&s->threads_running, 1, memory_order_relaxed);
	return ret;
}

int start_workers(struct service *s, struct err *e)
{
	size_t n = (size_t)s->conf->workers_threads;

	again_init(&s->again);
	s->workers = calloc(n, sizeof(*s->workers));
	s->worker_threads = calloc(n, sizeof(*s->worker_threads));
	if (!s->workers || !s->worker_threads)
		return err_set(e, STRAND_ENOMEM, "out of memory");
	for (size_t i = 0; i < n; i++) {
		char name[16];
		if (worker_init(&s->workers[i], &s->context, &s->again, (unsigned)i))
			return err_set(e, STRAND_ENOMEM, "out of memory");
		snprintf(name, sizeof(name), "worker-%u", (unsigned)i & 0xff);
		int ret = start_thread(s, &s->worker_threads[i], name, worker_run, &s->workers[i], e);
		if (ret)
			return ret;
	}
	return 0;
}

void stop_workers(struct service *s)
{
	for (int i = 0; s->worker_threads && i < s->conf->workers_threads; i++)
		thread_join(&s->worker_threads[i]);
	for (int i = 0; s->workers && i < s->conf->workers_threads; i++)
		worker_release(&s->workers[i]);
	again_release(&s->again);
	free(s->worker_threads);
	free(s->workers);
}

int start_scanner(struct service *s, struct err *e)
{
	if (scanner_init(&s->scanner, &s->context))
		return err_set(e, STRAND_ENOMEM, "out of memory");
	return start_thread(s, &s->scanner_thread, "scanner", scanner_run, &s->scanner, e);
}

void stop_scanner(struct service *s)
{
	thread_join(&s->scanner_thread);
	if (s->scanner.context)
		scanner_release(&s->scanner);
}

int start_marker(struct service *s, struct err *e)
{
	if (marker_init(&s->marker, &s->context))
		return err_set(e, STRAND_ENOMEM, "out of memory");
	return start_thread(s, &s->marker_thread, "marker", marker_run, &s->marker, e);
}

void stop_marker(struct service *s)
{
	thread_join(&s->marker_thread);
	if (s->marker.context)
		marker_release(&s->marker);
}

int start_listener(struct service *s, struct err *e)
{
	if (!s->conf->notifications_enabled)
		return 0;
	if (listener_init(&s->listener, &s->context, &s->scanner))
		return err_set(e, STRAND_ENOMEM, "out of memory");
	return start_thread(s, &s->listener_thread, "listener", listener_run, &s->listener, e);
}

void stop_listener(struct service *s)
{
	thread_join(&s->listener_thread);
	if (s->listener.context)
		listener_release(&s->listener);
}
