#include "strand/progress.h"

#include <stdio.h>
#include <string.h>

void progress_init(struct progress *p, struct event *news)
{
	*p = (struct progress){ .news = news };
	pthread_mutex_init(&p->lock, NULL);
}

void progress_release(struct progress *p)
{
	pthread_mutex_destroy(&p->lock);
}

static void reach(struct progress *p, _Atomic bool *mark)
{
	/* Release: what led here is seen by the main thread that finds it. */
	if (!atomic_exchange_explicit(mark, true, memory_order_acq_rel))
		event_signal(p->news);
}

void progress_scanning(struct progress *p)
{
	reach(p, &p->scanning);
}

void progress_caught_up(struct progress *p)
{
	reach(p, &p->caught_up);
}

void progress_trouble(struct progress *p, enum progress_who who, const char *why)
{
	char *told = p->trouble[who];
	bool changed;

	pthread_mutex_lock(&p->lock);
	changed = strncmp(told, why ? why : "", sizeof(p->trouble[who]) - 1) != 0;
	snprintf(told, sizeof(p->trouble[who]), "%s", why ? why : "");
	pthread_mutex_unlock(&p->lock);
	if (changed)
		event_signal(p->news);
}

bool progress_is_scanning(const struct progress *p)
{
	/* Acquire: pairs with reach. */
	return atomic_load_explicit(&p->scanning, memory_order_acquire);
}

bool progress_is_caught_up(const struct progress *p)
{
	/* Acquire: as above. */
	return atomic_load_explicit(&p->caught_up, memory_order_acquire);
}

bool progress_in_trouble(struct progress *p, char *ret_why, size_t size)
{
	bool found = false;

	pthread_mutex_lock(&p->lock);
	for (int i = 0; i < PROGRESS_WHO && !found; i++) {
		found = p->trouble[i][0] != '\0';
		if (found)
			snprintf(ret_why, size, "%s", p->trouble[i]);
	}
	pthread_mutex_unlock(&p->lock);
	return found;
}
