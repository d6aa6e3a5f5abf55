#include "libstrand/modules.h"

#include <string.h>

/* dm:execution_feedback is in the specification's trigger, if in none of its lists. */
const struct spec_route spec_routes[] = {
	{ "dm", "dm:evaluate_plan", "AD_strands" },
	{ "alpha", "alpha:decision_feedback", "DM_strands" },
	{ "trader", "trader:execute_plan", "DM_strands" },
	{ "alpha", "alpha:execution_feedback", "TR_strands" },
	{ "dm", "dm:execution_feedback", "TR_strands" },
};

const size_t n_spec_routes = sizeof(spec_routes) / sizeof(spec_routes[0]);

static const struct {
	const char *module, *table;
} tables[] = {
	{ "alpha", "AD_strands" },
	{ "dm", "DM_strands" },
	{ "trader", "TR_strands" },
};

const char *module_table(const char *module)
{
	for (size_t i = 0; i < sizeof(tables) / sizeof(tables[0]); i++)
		if (!strcmp(tables[i].module, module))
			return tables[i].table;
	return NULL;
}
