/* One row a metric; everything else about it follows from this.  Private to src/stats;
 * constant data.
 */
#ifndef STRANDD_STATS_METRIC_TABLE_H
#define STRANDD_STATS_METRIC_TABLE_H

#include "stats/metric.h"

struct metric_row {
	const char *name;	/* between METRIC_PREFIX and _total */
	bool by_route;
	const char *help;
};

extern const struct metric_row metric_rows[METRIC_COUNT];

#endif
