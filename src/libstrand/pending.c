#include "libstrand/pending.h"

#include <stdlib.h>
#include <string.h>

void pending_init(struct pending *p)
{
	*p = (struct pending){ 0 };
	for (int i = 0; i < 2; i++)
		p->lines[i].last_next = &p->lines[i].first;
}

void pending_release(struct pending *p)
{
	for (int i = 0; i < 2; i++)
		while (p->lines[i].first)
			free(pending_take(p, i));
}

int pending_add(struct pending *p, unsigned route, const char *id, bool urgent)
{
	struct pending_line *line = &p->lines[urgent];
	size_t len = strlen(id);
	struct pending_entry *entry = malloc(sizeof(*entry) + len + 1);

	if (!entry)
		return STRAND_ENOMEM;
	entry->next = NULL;
	entry->route = route;
	memcpy(entry->id, id, len + 1);
	*line->last_next = entry;
	line->last_next = &entry->next;
	p->n++;
	p->bytes += len;
	return 0;
}

struct pending_entry *pending_take(struct pending *p, bool urgent)
{
	struct pending_line *line = &p->lines[urgent];
	struct pending_entry *entry = line->first;

	if (!entry)
		return NULL;
	line->first = entry->next;
	if (!line->first)
		line->last_next = &line->first;
	p->n--;
	p->bytes -= strlen(entry->id);
	return entry;
}
