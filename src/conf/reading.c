#include "conf/reading.h"

#include <stdlib.h>
#include <string.h>

const char *reading_keep_name(struct reading *r, const char *name)
{
	struct conf *c = r->conf;
	char **names = realloc(c->names, (c->n_names + 2) * sizeof(*names));

	if (names) {
		c->names = names;
		names[c->n_names] = strdup(name);
		names[c->n_names + 1] = NULL;
		if (names[c->n_names])
			return names[c->n_names++];
	}
	r->reports->no_memory = true;
	return NULL;
}
