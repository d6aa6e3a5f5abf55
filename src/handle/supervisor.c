#include "handle/supervisor.h"

#include <stdlib.h>

#include "base/activity.h"
#include "base/beat.h"
#include "base/clock.h"
#include "handle/slot.h"

#define NO_MEMORY_MS 100

static struct child *first(struct supervisor *s)
{
	struct child *c;

	pthread_mutex_lock(&s->lock);
	c = s->children;
	pthread_mutex_unlock(&s->lock);
	return c;
}

static void drop(struct supervisor *s, struct child *gone)
{
	struct child **link = &s->children;

	pthread_mutex_lock(&s->lock);
	while (*link != gone)
		link = &(*link)->next;
	*link = gone->next;
	pthread_mutex_unlock(&s->lock);
	slot_free(gone);
}

/* Steps all slots, and frees those that are over.  *ret_next: when there is more to
 * do.  How many are left. */
static size_t step_all(struct supervisor *s, int64_t *ret_next)
{
	struct child *next;
	size_t n = 0;

	*ret_next = INT64_MAX;
	for (struct child *c = first(s); c; c = next) {
		int64_t at = slot_step(c, clock_now());

		/* Starting processes may take its time. */
		beat_now();
		next = c->next;
		if (c->over) {
			drop(s, c);
			continue;
		}
		n++;
		*ret_next = at < *ret_next ? at : *ret_next;
	}
	return n;
}

/* The descriptors of `n` slots, behind that of `work`. */
static int make_room(struct supervisor *s, size_t n)
{
	size_t need = 1 + n * SLOT_FDS;
	struct pollfd *fds;

	if (need <= s->n_fds)
		return 0;
	fds = reallocarray(s->fds, need, sizeof(*fds));
	if (!fds)
		return STRAND_ENOMEM;
	s->fds = fds;
	s->n_fds = need;
	return 0;
}

/* What was added to the list since is not among the `n`, and stands in front of it. */
static void watch_all(struct supervisor *s, struct child *from, int64_t next)
{
	size_t n = 0;
	int64_t now = clock_now();

	s->fds[n++] = (struct pollfd){ .fd = s->work.fd, .events = POLLIN };
	for (struct child *c = from; c; c = c->next, n += SLOT_FDS)
		slot_watch(c, s->fds + n, now);
	if (poll(s->fds, n, beat_left_ms(next)) <= 0)
		n = 0;
	beat_now();
	if (!n)
		return;
	event_clear(&s->work);
	n = 1;
	now = clock_now();
	for (struct child *c = from; c; c = c->next, n += SLOT_FDS)
		slot_serve(c, s->fds + n, now);
}

static size_t length(const struct child *c)
{
	size_t n = 0;

	for (; c; c = c->next)
		n++;
	return n;
}

static bool stopping(struct supervisor *s)
{
	bool stopping;

	pthread_mutex_lock(&s->lock);
	stopping = s->stopping;
	pthread_mutex_unlock(&s->lock);
	return stopping;
}

static void supervise(void *arg)
{
	struct supervisor *s = arg;
	int64_t next;

	activity_set("watching handlers");
	for (;;) {
		bool last = stopping(s);
		size_t n = step_all(s, &next);
		struct child *from = first(s);

		if (last && !n)
			return;
		/* One that was added a moment ago has not been stepped. */
		if (length(from) > n)
			next = 0;
		if (make_room(s, length(from)))
			(void)!event_wait(&s->work, clock_after_ms(NO_MEMORY_MS));
		else
			watch_all(s, from, next);
	}
}

int supervisor_start(struct supervisor **ret, struct err *e)
{
	struct supervisor *s = calloc(1, sizeof(*s));
	int r;

	if (!s)
		return err_set(e, STRAND_ENOMEM, "out of memory");
	pthread_mutex_init(&s->lock, NULL);
	s->work.fd = -1;
	r = event_init(&s->work);
	if (r)
		err_set(e, r, "no event descriptor for the supervisor");
	if (!r)
		r = thread_start(&s->thread, "supervisor", supervise, s, e);
	if (r)
		supervisor_stop(s);
	else
		*ret = s;
	return r;
}

void supervisor_stop(struct supervisor *s)
{
	if (!s)
		return;
	if (s->thread.started) {
		pthread_mutex_lock(&s->lock);
		s->stopping = true;
		pthread_mutex_unlock(&s->lock);
		event_signal(&s->work);
		thread_join(&s->thread);
	}
	event_release(&s->work);
	pthread_mutex_destroy(&s->lock);
	free(s->fds);
	free(s);
}

int supervisor_add(struct supervisor *s, const struct child_policy *policy, unsigned number,
		   struct child **ret, struct err *e)
{
	struct child *c = slot_new(s, policy, number);

	if (!c)
		return err_set(e, STRAND_ENOMEM, "no memory, or no descriptor, for handler %u of %s", number,
			       policy->name);
	pthread_mutex_lock(&s->lock);
	c->epoch = s->epoch;
	c->next = s->children;
	s->children = c;
	pthread_mutex_unlock(&s->lock);
	event_signal(&s->work);
	*ret = c;
	return 0;
}

void supervisor_remove(struct supervisor *s, struct child *c)
{
	if (!c)
		return;
	pthread_mutex_lock(&s->lock);
	c->removed = true;
	pthread_mutex_unlock(&s->lock);
	event_signal(&s->work);
}

void supervisor_replace_all(struct supervisor *s)
{
	pthread_mutex_lock(&s->lock);
	s->epoch++;
	pthread_mutex_unlock(&s->lock);
	event_signal(&s->work);
}

void supervisor_counts(struct supervisor *s, struct supervisor_counts *ret)
{
	struct supervisor_counts n = { 0 };

	pthread_mutex_lock(&s->lock);
	for (const struct child *c = s->children; c; c = c->next) {
		bool has_process = c->state == CHILD_UP || c->state == CHILD_STARTING;

		n.up += c->state == CHILD_UP;
		n.starting += c->state == CHILD_STARTING;
		n.waiting += !has_process;
		n.outdated += has_process && c->epoch != s->epoch;
	}
	n.starts = s->starts;
	n.deaths = s->deaths;
	pthread_mutex_unlock(&s->lock);
	*ret = n;
}
