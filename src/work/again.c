#include "work/again.h"

#include <stdlib.h>

static void swap(struct again_item *a, struct again_item *b)
{
	struct again_item kept = *a;

	*a = *b;
	*b = kept;
}

void again_init(struct again *a)
{
	*a = (struct again){ .next = INT64_MAX };
	pthread_mutex_init(&a->lock, NULL);
}

/* Relaxed, here and in again_next: only a hint of when to look; who looks takes
 * the lock. */
static void note_next(struct again *a)
{
	atomic_store_explicit(&a->next, a->n ? a->items[0].due : INT64_MAX, memory_order_relaxed);
}

static int push(struct again *a, struct delivery *d, int64_t due)
{
	size_t i = a->n;

	if (a->n == a->size) {
		size_t size = a->size ? 2 * a->size : 64;
		struct again_item *items = reallocarray(a->items, size, sizeof(*items));
		if (!items)
			return STRAND_ENOMEM;
		a->items = items;
		a->size = size;
	}
	a->items[a->n++] = (struct again_item){ .due = due, .delivery = d };
	for (; i && a->items[i].due < a->items[(i - 1) / 2].due; i = (i - 1) / 2)
		swap(&a->items[i], &a->items[(i - 1) / 2]);
	return 0;
}

int again_add(struct again *a, struct delivery *d, int64_t due)
{
	int ret;

	pthread_mutex_lock(&a->lock);
	ret = push(a, d, due);
	note_next(a);
	pthread_mutex_unlock(&a->lock);
	return ret;
}

static struct delivery *pop(struct again *a)
{
	struct delivery *d = a->items[0].delivery;
	size_t i = 0;

	a->items[0] = a->items[--a->n];
	for (;;) {
		size_t least = i, left = 2 * i + 1;
		if (left < a->n && a->items[left].due < a->items[least].due)
			least = left;
		if (left + 1 < a->n && a->items[left + 1].due < a->items[least].due)
			least = left + 1;
		if (least == i)
			return d;
		swap(&a->items[i], &a->items[least]);
		i = least;
	}
}

static struct delivery *take_due(struct again *a, int64_t now)
{
	struct delivery *d = NULL;

	pthread_mutex_lock(&a->lock);
	if (a->n && a->items[0].due <= now)
		d = pop(a);
	note_next(a);
	pthread_mutex_unlock(&a->lock);
	return d;
}

void again_return_due(struct again *a, struct queue *q, int64_t now)
{
	struct delivery *d;

	while (again_next(a) <= now && (d = take_due(a, now)))
		queue_return(q, d);
}

int64_t again_next(const struct again *a)
{
	return atomic_load_explicit(&a->next, memory_order_relaxed);
}

size_t again_count(struct again *a, unsigned route)
{
	size_t n = 0;

	pthread_mutex_lock(&a->lock);
	for (size_t i = 0; i < a->n; i++)
		n += a->items[i].delivery->route == route;
	pthread_mutex_unlock(&a->lock);
	return n;
}

void again_release(struct again *a)
{
	free(a->items);
	pthread_mutex_destroy(&a->lock);
}
