/* Numbers as text: Prometheus' exposition format 0.0.4.  Pure; any thread.
 */
#ifndef STRANDD_STATS_EXPOSITION_H
#define STRANDD_STATS_EXPOSITION_H

#include <stdint.h>

#include "base/buf.h"

#define METRIC_PREFIX "strandd_"

/* What the lines of one metric have in common. */
struct exposition {
	const char *name;	/* between METRIC_PREFIX and the suffix */
	const char *suffix;	/* "_total", or "" */
	const char *type;	/* "counter", "gauge" */
	const char *help;
};

/* HELP and TYPE, once, before the samples. */
void exposition_head(struct buf *out, const struct exposition *x);

/* A sample; `tag` and `source` are its labels, both or neither NULL. */
void exposition_count(struct buf *out, const struct exposition *x, const char *tag, const char *source,
		      uint64_t value);
void exposition_value(struct buf *out, const struct exposition *x, const char *tag, const char *source,
		      double value);

#endif
