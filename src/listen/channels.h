/* Which routes a notification's channel means.  Built once, then only read. */
#ifndef STRANDD_LISTEN_CHANNELS_H
#define STRANDD_LISTEN_CHANNELS_H

#include <stdbool.h>
#include <stddef.h>

#include "strand/route.h"

struct channel {
	char *name;		/* "dm_evaluate_plan" or "dm_evaluate_plan:high" */
	bool high;
	unsigned route;		/* one row for each route of the channel */
};

struct channels {
	size_t n;
	struct channel *rows;	/* sorted by name */
};

int channels_init(struct channels *ch, const struct route_table *routes) MUST_CHECK;
void channels_release(struct channels *ch);

/* First row of `name`, or NULL; further ones follow it while the name is the same. */
const struct channel *channels_find(const struct channels *ch, const char *name);

#endif
