#include "work/again.h"

#include <stdlib.h>

static void swap(struct again_item *a, struct again_item *b)
{
	struct again_item kept = *a;

	*a = *b;
	*b = kept;
}

int again_add(struct again *a, struct delivery *d, int64_t due)
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

void again_return_due(struct again *a, struct queue *q, int64_t now)
{
	while (a->n && a->items[0].due <= now)
		queue_return(q, pop(a));
}

int64_t again_next(const struct again *a, int64_t otherwise)
{
	return a->n && a->items[0].due < otherwise ? a->items[0].due : otherwise;
}

void again_release(struct again *a, struct queue *q)
{
	again_return_due(a, q, INT64_MAX);
	free(a->items);
	*a = (struct again){ 0 };
}
