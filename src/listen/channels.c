#include "listen/channels.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int by_name(const void *a, const void *b)
{
	return strcmp(((const struct channel *)a)->name, ((const struct channel *)b)->name);
}

static int add(struct channels *ch, const struct route *r, bool high)
{
	char *name;

	if (asprintf(&name, "%s%s", r->channel, high ? ":high" : "") < 0)
		return STRAND_ENOMEM;
	ch->rows[ch->n++] = (struct channel){ .name = name, .high = high, .route = r->index };
	return 0;
}

int channels_init(struct channels *ch, const struct route_table *routes)
{
	int ret = 0;

	*ch = (struct channels){ .rows = calloc(2 * routes->n + 1, sizeof(*ch->rows)) };
	if (!ch->rows)
		return STRAND_ENOMEM;
	for (size_t i = 0; !ret && i < routes->n; i++) {
		ret = add(ch, &routes->routes[i], false);
		ret = ret ? ret : add(ch, &routes->routes[i], true);
	}
	if (ret) {
		channels_release(ch);
		return ret;
	}
	qsort(ch->rows, ch->n, sizeof(*ch->rows), by_name);
	return 0;
}

void channels_release(struct channels *ch)
{
	for (size_t i = 0; i < ch->n; i++)
		free(ch->rows[i].name);
	free(ch->rows);
	*ch = (struct channels){ 0 };
}

const struct channel *channels_find(const struct channels *ch, const char *name)
{
	size_t low = 0, high = ch->n;

	while (low < high) {
		size_t middle = low + (high - low) / 2;
		if (strcmp(ch->rows[middle].name, name) < 0)
			low = middle + 1;
		else
			high = middle;
	}
	return low < ch->n && !strcmp(ch->rows[low].name, name) ? &ch->rows[low] : NULL;
}
