#include "conf/select.h"

#include <stdlib.h>

#include "base/nearest.h"
#include "conf/channel.h"
#include "conf/check.h"
#include "conf/value.h"

static bool selected(const struct conf *c, const struct conf_route *route)
{
	for (size_t i = 0; i < c->n_channels; i++) {
		if (channel_is_of(c->channels[i], route->tag))
			return true;
	}
	return false;
}

/* The channel of each route. */
static char **channels_of(const struct conf *c)
{
	char **names = calloc(c->n_routes + 1, sizeof(*names));

	for (size_t i = 0; names && i < c->n_routes; i++) {
		names[i] = channel_of(c->routes[i].tag);
		if (!names[i]) {
			strings_free(names);
			return NULL;
		}
	}
	return names;
}

/* The specification lists four channels, whatever routes there are: a name that no
 * route has is worth a word, not an end. */
static void warn_of_unknown(const struct conf *c, const struct place *place, char *const *names,
			    struct reports *reports)
{
	for (size_t i = 0; i < c->n_channels; i++) {
		char quoted[QUOTE_SIZE];
		const char *near;
		bool known = false;

		for (size_t k = 0; k < c->n_routes; k++)
			known |= channel_is_of(c->channels[i], c->routes[k].tag);
		if (known)
			continue;
		near = nearest(c->channels[i], (const char *const *)names, c->n_routes);
		report_warning(reports, place, "notifications.channels: no route has the channel %s%s%s%s",
			       quote(quoted, c->channels[i]), near ? "; did you mean \"" : "", near ? near : "",
			       near ? "\"?" : "");
	}
}

int select_routes(struct conf *c, struct reports *reports)
{
	const struct place *place = check_place(c, "module_communication.notifications.channels");
	size_t kept = 0;
	char **names;

	if (!c->channels || !c->n_routes)
		return 0;
	names = channels_of(c);
	c->left_out = calloc(c->n_routes, sizeof(*c->left_out));
	if (!names || !c->left_out) {
		strings_free(names);
		return STRAND_ENOMEM;
	}
	warn_of_unknown(c, place, names, reports);
	strings_free(names);
	for (size_t i = 0; i < c->n_routes; i++) {
		if (selected(c, &c->routes[i]))
			c->routes[kept++] = c->routes[i];
		else
			c->left_out[c->n_left_out++] = c->routes[i];
	}
	c->n_routes = kept;
	if (!kept)
		report_error(reports, place, "notifications.channels names the channel of no route: there is"
			     " nothing to serve");
	return 0;
}
