#include "conf/lists.h"

#include <stdlib.h>
#include <string.h>

#include "conf/keys.h"
#include "conf/option.h"
#include "conf/setting.h"
#include "conf/value.h"

/* What the two lists have in common. */
struct kind {
	const char *list, *element;
	const struct option_table *table;
	size_t size;
};

static const struct kind module_kind = { "modules", "module", &module_options, sizeof(struct conf_module) };
static const struct kind route_kind = { "routes", "route", &route_options, sizeof(struct conf_route) };

/* Adds `n` elements, all zero, to an array of *n_elements.  Their number is the
 * caller's to raise.  NULL: no memory, or not a list. */
static void *grow(struct reading *r, const config_setting_t *list, const struct kind *kind,
		  void *elements, size_t n_elements)
{
	size_t n = (size_t)config_setting_length(list);
	char *grown;

	if (config_setting_type(list) != CONFIG_TYPE_LIST) {
		reading_error(r, list, "%s must be a list in ( ) of groups in { }, not %s", kind->list,
			      setting_type_name(list));
		return NULL;
	}
	grown = realloc(elements, (n_elements + n + 1) * kind->size);
	if (!grown) {
		r->reports->no_memory = true;
		return NULL;
	}
	memset(grown + n_elements * kind->size, 0, (n + 1) * kind->size);
	return grown;
}

_Static_assert(LIST_OPTIONS_MAX <= 8 * sizeof(unsigned), "a bit a row");

/* Reads one group of a list by its table; a bit for each row that is given. */
static unsigned read_element(struct reading *r, const config_setting_t *s, const struct kind *kind,
			     void *base)
{
	unsigned given = 0;

	if (config_setting_type(s) != CONFIG_TYPE_GROUP) {
		reading_error(r, s, "a %s must be a group in { }, not %s", kind->element, setting_type_name(s));
		return 0;
	}
	keys_check(r, s, kind->table, NULL);
	if (values_default(kind->table, base) < 0)
		r->reports->no_memory = true;
	for (size_t i = 0; i < kind->table->n; i++) {
		const struct option *o = &kind->table->options[i];
		const config_setting_t *field = config_setting_lookup((config_setting_t *)s, o->path);

		if (!field && o->required)
			reading_error(r, s, "this %s lacks \"%s\"", kind->element, o->path);
		else if (field && setting_read(r, o, base, field))
			given |= 1U << i;
	}
	return given;
}

static int add_module(struct conf *c, const char *name, const char *table)
{
	struct conf_module *m = &c->modules[c->n_modules++];

	*m = (struct conf_module){ .name = strdup(name), .table = strdup(table) };
	return m->name && m->table ? 0 : STRAND_ENOMEM;
}

int lists_default_modules(struct conf *c)
{
	static const char *const specified[][2] = {
		{ "alpha", "AD_strands" },
		{ "dm", "DM_strands" },
		{ "trader", "TR_strands" },
	};
	size_t n = sizeof(specified) / sizeof(specified[0]);

	c->modules = calloc(n, sizeof(*c->modules));
	if (!c->modules)
		return STRAND_ENOMEM;
	for (size_t i = 0; i < n; i++) {
		if (add_module(c, specified[i][0], specified[i][1]) < 0)
			return STRAND_ENOMEM;
	}
	return 0;
}

/* A module of the specification that a file lists anew stands for itself no more. */
static void replace_default(struct conf *c, struct conf_module *last)
{
	for (struct conf_module *m = c->modules; last->name && m < last; m++) {
		if (m->file || strcmp(m->name, last->name) != 0)
			continue;
		values_release(&module_options, m);
		*m = *last;
		*last = (struct conf_module){ 0 };
		c->n_modules--;
		return;
	}
}

void lists_read_modules(struct reading *r, const config_setting_t *list)
{
	struct conf *c = r->conf;
	void *grown = grow(r, list, &module_kind, c->modules, c->n_modules);
	int n = config_setting_length(list);

	if (!grown)
		return;
	c->modules = grown;
	if (n == 0)
		reading_error(r, list, "modules is empty; leave it out for the specification's three");
	for (int i = 0; i < n; i++) {
		const config_setting_t *s = config_setting_get_elem((config_setting_t *)list, (unsigned)i);
		struct conf_module *m = &c->modules[c->n_modules++];

		m->file = r->file;
		m->line = (int)config_setting_source_line(s);
		read_element(r, s, &module_kind, m);
		replace_default(c, m);
	}
}

void lists_read_routes(struct reading *r, const config_setting_t *list)
{
	struct conf *c = r->conf;
	void *grown = grow(r, list, &route_kind, c->routes, c->n_routes);
	int n = config_setting_length(list);

	if (!grown)
		return;
	c->routes = grown;
	for (int i = 0; i < n; i++) {
		const config_setting_t *s = config_setting_get_elem((config_setting_t *)list, (unsigned)i);
		struct conf_route *route = &c->routes[c->n_routes++];

		route->file = r->file;
		route->line = (int)config_setting_source_line(s);
		route->given = read_element(r, s, &route_kind, route);
	}
}

void lists_release(struct conf *c)
{
	for (size_t i = 0; i < c->n_modules; i++)
		values_release(&module_options, &c->modules[i]);
	for (size_t i = 0; i < c->n_routes; i++)
		values_release(&route_options, &c->routes[i]);
	for (size_t i = 0; i < c->n_left_out; i++)
		values_release(&route_options, &c->left_out[i]);
	free(c->modules);
	free(c->routes);
	free(c->left_out);
}
