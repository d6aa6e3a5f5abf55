/* What `strandctl publish` was told. */
#ifndef STRANDD_STRANDCTL_PUBLISH_ARGS_H
#define STRANDD_STRANDCTL_PUBLISH_ARGS_H

#include <stdbool.h>
#include <stdint.h>

#include "strandctl/options.h"
#include "strandctl/target.h"

struct publish_args {
	struct ctl *ctl;
	const char *table, *id, *json_row;
	struct json_object *tags;	/* owned, as are the next two */
	const char **set_names, **set_values;
	size_t n_sets;
	bool from_stdin, allow_unrouted, wait;
	int64_t timeout_ms;	/* -1: not given */
};

extern const struct argp publish_argp;

/* The strand that the arguments describe as JSON text, which the caller frees:
 * --json-row with --id and --set added. */
int publish_args_text(const struct publish_args *args, const struct target *t, char **ret_text,
		      struct err *e) MUST_CHECK;

void publish_args_release(struct publish_args *args);

#endif
