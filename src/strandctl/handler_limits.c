#include "strandctl/handler_limits.h"

#include <string.h>

#include "conf/option.h"
#include "conf/value.h"

int handler_limits_init(struct conf_route *process)
{
	return values_default(&route_options, process);
}

void handler_limits_release(struct conf_route *process)
{
	values_release(&route_options, process);
}

int handler_limits_set(struct conf_route *process, const char *path, const char *text, struct err *e)
{
	for (size_t i = 0; i < route_options.n; i++)
		if (!strcmp(route_options.options[i].path, path))
			return value_set(&route_options.options[i], process, text, e);
	return err_set(e, STRAND_EINVAL, "there is no option %s", path);
}
