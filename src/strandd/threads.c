/* The parts of a generation that are threads. */
#include "strandd/parts.h"

#include <stdio.h>
#include <stdlib.h>

/* Tells the main thread when it has ended, so that it can join without waiting. */
static void member_run(void *arg)
{
	struct member *m = arg;
	struct generation *g = m->generation;
	struct event *news = g->progress.news;

	m->fn(m->arg);
	/* acq_rel: what the thread did is seen by who sees it gone */
	atomic_fetch_sub_explicit(&g->threads_running, 1, memory_order_acq_rel);
	event_signal(news);
}

int start_member(struct generation *g, struct member *m, const char *name, thread_fn *fn, void *arg,
		 struct err *e)
{
	int ret;

	*m = (struct member){ .generation = g, .fn = fn, .arg = arg };
	/* relaxed: the thread that lowers it is not started yet */
	atomic_fetch_add_explicit(&g->threads_running, 1, memory_order_relaxed);
	ret = thread_start(&m->thread, name, member_run, m, e);
	if (ret)
		atomic_fetch_sub_explicit(&g->threads_running, 1, memory_order_relaxed);
	return ret;
}

/* A process's worker counts with the keeper from before its thread is there until it
 * has ended: whenever the keeper is told to drain, it sees all that may have leases. */
static void run_process_worker(void *arg)
{
	struct worker *w = arg;

	worker_run(w);
	keeper_leave(w->context->keeper);
}

static int start_worker(struct generation *g, struct crew *crew, size_t i, const char *name, struct err *e)
{
	int ret;

	if (!crew->children)
		return start_member(g, &crew->members[i], name, worker_run, &crew->workers[i], e);
	keeper_enter(&g->keeper);
	ret = start_member(g, &crew->members[i], name, run_process_worker, &crew->workers[i], e);
	if (ret)
		keeper_leave(&g->keeper);
	return ret;
}

static int start_crew(struct generation *g, struct crew *crew, const char *kind, struct err *e)
{
	crew->workers = calloc(crew->n_workers, sizeof(*crew->workers));
	crew->members = calloc(crew->n_workers, sizeof(*crew->members));
	if (!crew->workers || !crew->members)
		return err_set(e, STRAND_ENOMEM, "out of memory");
	for (size_t i = 0; i < crew->n_workers; i++) {
		char name[16];
		if (worker_init(&crew->workers[i], &g->context, crew->queue, &crew->again, (unsigned)i,
				crew->children ? crew->children[i] : NULL, crew->route))
			return err_set(e, STRAND_ENOMEM, "out of memory");
		snprintf(name, sizeof(name), "%s-%u", kind, (unsigned)i & 0xff);
		int ret = start_worker(g, crew, i, name, e);
		if (ret)
			return ret;
	}
	return 0;
}

int start_workers(struct generation *g, struct err *e)
{
	int ret = 0;

	for (size_t i = 0; !ret && i < g->n_crews; i++)
		ret = start_crew(g, &g->crews[i], i ? "process" : "worker", e);
	return ret;
}

static void stop_crew(struct crew *crew)
{
	for (size_t i = 0; crew->members && i < crew->n_workers; i++)
		thread_join(&crew->members[i].thread);
	for (size_t i = 0; crew->workers && i < crew->n_workers; i++)
		worker_release(&crew->workers[i]);
	free(crew->members);
	free(crew->workers);
}

void stop_workers(struct generation *g)
{
	for (size_t i = 0; i < g->n_crews; i++)
		stop_crew(&g->crews[i]);
}

int start_scanner(struct generation *g, struct err *e)
{
	if (scanner_init(&g->scanner, &g->context))
		return err_set(e, STRAND_ENOMEM, "out of memory");
	return start_member(g, &g->scanner_member, "scanner", scanner_run, &g->scanner, e);
}

void stop_scanner(struct generation *g)
{
	thread_join(&g->scanner_member.thread);
	if (g->scanner.context)
		scanner_release(&g->scanner);
}

int start_marker(struct generation *g, struct err *e)
{
	if (marker_init(&g->marker, &g->context))
		return err_set(e, STRAND_ENOMEM, "out of memory");
	return start_member(g, &g->marker_member, "marker", marker_run, &g->marker, e);
}

void stop_marker(struct generation *g)
{
	thread_join(&g->marker_member.thread);
	if (g->marker.context)
		marker_release(&g->marker);
}

int start_listener(struct generation *g, struct err *e)
{
	if (!g->conf->notifications_enabled)
		return 0;
	if (listener_init(&g->listener, &g->context, &g->scanner))
		return err_set(e, STRAND_ENOMEM, "out of memory");
	return start_member(g, &g->listener_member, "listener", listener_run, &g->listener, e);
}

void stop_listener(struct generation *g)
{
	thread_join(&g->listener_member.thread);
	if (g->listener.context)
		listener_release(&g->listener);
}

int start_keeper(struct generation *g, struct err *e)
{
	if (g->n_crews < 2)
		return 0;
	if (keeper_init(&g->keeper, &g->context))
		return err_set(e, STRAND_ENOMEM, "out of memory");
	return start_member(g, &g->keeper_member, "keeper", keeper_run, &g->keeper, e);
}

void stop_keeper(struct generation *g)
{
	thread_join(&g->keeper_member.thread);
	keeper_release(&g->keeper);
}

int start_cleaner(struct generation *g, struct err *e)
{
	if (!g->conf->cleanup_enabled)
		return 0;
	cleaner_init(&g->cleaner, &g->context, g->cleaner_past);
	return start_member(g, &g->cleaner_member, "cleaner", cleaner_run, &g->cleaner, e);
}

void stop_cleaner(struct generation *g)
{
	thread_join(&g->cleaner_member.thread);
	cleaner_release(&g->cleaner);
}
