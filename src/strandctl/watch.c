#include "strandctl/watch.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/event.h"
#include "base/thread.h"
#include "strandctl/progress.h"

/* A lock request gives up after half a second: look once or twice before. */
#define LOOK_AFTER_MS 150
#define LOOK_EVERY_MS 150
#define TELL_AFTER_MS 2000
#define QUERY_TIMEOUT_MS 3000

static const char blockers_sql[] =
	"SELECT string_agg(" WATCH_SESSION_SQL ", '; ')"
	"  FROM unnest(pg_blocking_pids($1::integer)) b (pid)"
	"  JOIN pg_stat_activity a ON a.pid = b.pid";

static const char index_sql[] =
	"SELECT coalesce(nullif(blocks_total, 0), tuples_total),"
	"       CASE WHEN blocks_total > 0 THEN blocks_done ELSE tuples_done END, lockers_total"
	"  FROM pg_stat_progress_create_index WHERE pid = $1::integer";

struct watch {
	struct thread thread;
	struct conn_target target;
	struct event stop;
	char pid[16];
	pthread_mutex_t lock;	/* guards the rest; nothing is called under it */
	int64_t since;		/* a statement runs since, 0: none does */
	bool patient;
	char blockers[400];
};

static int64_t running_since(struct watch *w, bool *ret_patient)
{
	int64_t since;

	pthread_mutex_lock(&w->lock);
	since = w->since;
	*ret_patient = w->patient;
	pthread_mutex_unlock(&w->lock);
	return since;
}

/* The blockers just now, kept when there are any; true when they are others
 * than before. */
static bool look(struct watch *w, struct conn *c)
{
	const char *values[] = { w->pid };
	const char *found;
	PGresult *res;
	bool changed = false;

	if (conn_query(c, blockers_sql, 1, values, clock_after_ms(QUERY_TIMEOUT_MS), &res, NULL))
		return false;
	found = PQgetvalue(res, 0, 0);
	pthread_mutex_lock(&w->lock);
	if (*found && w->since) {
		/* The time in brackets changes at each look, the pid does not. */
		changed = strncmp(found, w->blockers, strcspn(found, "(")) != 0;
		snprintf(w->blockers, sizeof(w->blockers), "%s", found);
	}
	pthread_mutex_unlock(&w->lock);
	PQclear(res);
	return changed;
}

static void show_index(struct watch *w, struct conn *c, struct progress *bar)
{
	const char *values[] = { w->pid };
	PGresult *res;

	if (!bar->on ||
	    conn_query(c, index_sql, 1, values, clock_after_ms(QUERY_TIMEOUT_MS), &res, NULL))
		return;
	if (PQntuples(res) && atoll(PQgetvalue(res, 0, 0)) > 0) {
		bar->total = atoll(PQgetvalue(res, 0, 0));
		progress_show(bar, atoll(PQgetvalue(res, 0, 1)), atoll(PQgetvalue(res, 0, 1)));
	}
	PQclear(res);
}

static void watch_one(struct watch *w, struct conn *c, int64_t since)
{
	struct progress bar;
	bool patient, told = false;
	char blockers[sizeof(w->blockers)];

	progress_start(&bar, "  building index", 0);
	while (running_since(w, &patient) == since && conn_usable(c)) {
		told &= !look(w, c);
		if (patient && clock_now() - since > TELL_AFTER_MS * NSEC_PER_MSEC) {
			watch_blockers(w, blockers, sizeof(blockers));
			if (*blockers && !told) {
				progress_wipe(&bar);
				ctl_warn("waiting for %s", blockers);
				told = true;
			}
			show_index(w, c, &bar);
		}
		if (!event_wait(&w->stop, clock_after_ms(LOOK_EVERY_MS)))
			break;
	}
	progress_wipe(&bar);
}

static void watch_main(void *arg)
{
	struct watch *w = arg;
	struct conn *c = NULL;
	bool patient;

	while (event_wait(&w->stop, clock_after_ms(LOOK_AFTER_MS / 3))) {
		int64_t since = running_since(w, &patient);

		if (!since || clock_now() - since < LOOK_AFTER_MS * NSEC_PER_MSEC)
			continue;
		if (!c && conn_open(&c, &w->target, clock_after_ms(QUERY_TIMEOUT_MS), w->stop.fd, NULL))
			break;
		watch_one(w, c, since);
		if (!conn_usable(c))
			break;
	}
	conn_close(c);
}

struct watch *watch_start(struct ctl *ctl)
{
	struct watch *w = calloc(1, sizeof(*w));

	if (!w)
		return NULL;
	w->target = ctl->target;
	snprintf(w->pid, sizeof(w->pid), "%d", PQbackendPID(conn_pg(ctl->conn)));
	pthread_mutex_init(&w->lock, NULL);
	if (event_init(&w->stop)) {
		w->stop.fd = -1;
	} else if (thread_start(&w->thread, "watch", watch_main, w, NULL)) {
		event_release(&w->stop);
	}
	return w;
}

void watch_stop(struct watch *w)
{
	if (!w)
		return;
	if (w->thread.started)
		event_signal(&w->stop);
	thread_join(&w->thread);
	event_release(&w->stop);
	pthread_mutex_destroy(&w->lock);
	free(w);
}

void watch_begin(struct watch *w, bool patient)
{
	if (!w)
		return;
	pthread_mutex_lock(&w->lock);
	w->since = clock_now();
	w->patient = patient;
	*w->blockers = '\0';
	pthread_mutex_unlock(&w->lock);
}

void watch_end(struct watch *w)
{
	if (!w)
		return;
	pthread_mutex_lock(&w->lock);
	w->since = 0;
	pthread_mutex_unlock(&w->lock);
}

void watch_blockers(struct watch *w, char *out, size_t size)
{
	snprintf(out, size, "%s", "");
	if (!w)
		return;
	pthread_mutex_lock(&w->lock);
	snprintf(out, size, "%s", w->blockers);
	pthread_mutex_unlock(&w->lock);
}
