#include "conf/lists.h"

#include <stdlib.h>
#include <string.h>

#include "base/nearest.h"
#include "conf/keys.h"
#include "conf/option.h"
#include "conf/report.h"
#include "conf/value.h"

/* 63 bytes of a PostgreSQL identifier, less ":high" of the high channel. */
enum { CHANNEL_MAX_BYTES = 58 };

static int no_memory(const struct conf *c, struct err *e)
{
	return err_set(e, STRAND_ENOMEM, "%s: out of memory", c->file ? c->file : "configuration");
}

/* Allocates the list's elements, all zero; an empty list gives NULL. */
static int new_elements(struct conf *c, const config_setting_t *list, const char *name, size_t size,
			void **ret_elements, struct err *e)
{
	int n;

	if (config_setting_type(list) != CONFIG_TYPE_LIST)
		return report(e, c->file, list, "%s must be a list in ( ) of groups in { }, not %s",
			      name, setting_type_name(list));
	n = config_setting_length(list);
	*ret_elements = NULL;
	if (n == 0)
		return 0;
	*ret_elements = calloc((size_t)n, size);
	return *ret_elements ? n : no_memory(c, e);
}

/* Reads one group of a list by its table. */
static int read_element(struct conf *c, const config_setting_t *s, const char *what,
			const struct option_table *table, void *base, struct err *e)
{
	int r;

	if (config_setting_type(s) != CONFIG_TYPE_GROUP)
		return report(e, c->file, s, "a %s must be a group in { }, not %s", what,
			      setting_type_name(s));
	r = keys_check(s, table, NULL, c->file, e);
	if (r < 0)
		return r;
	if (values_default(table, base) < 0)
		return no_memory(c, e);
	for (size_t i = 0; i < table->n; i++) {
		const struct option *o = &table->options[i];
		const config_setting_t *field = config_setting_lookup((config_setting_t *)s, o->path);

		if (!field && o->required)
			return report(e, c->file, s, "this %s lacks \"%s\"", what, o->path);
		r = field ? setting_read(o, base, field, c->file, e) : 0;
		if (r < 0)
			return r;
	}
	return 0;
}

/* Do two names mean one table, as SQL folds case outside quotes? */
static bool same_name(const char *a, const char *b)
{
	bool quoted = false;

	for (; *a && *b; a++, b++) {
		char x = *a, y = *b;

		if (!quoted && x >= 'A' && x <= 'Z')
			x = (char)(x - 'A' + 'a');
		if (!quoted && y >= 'A' && y <= 'Z')
			y = (char)(y - 'A' + 'a');
		if (x != y)
			return false;
		quoted ^= x == '"';
	}
	return *a == *b;
}

static bool has_blank(const char *text)
{
	for (; *text; text++) {
		if ((unsigned char)*text <= ' ' || *text == 0x7f)
			return true;
	}
	return false;
}

static int check_module(const struct conf *c, const config_setting_t *s, const struct conf_module *m,
			struct err *e)
{
	char quoted[QUOTE_SIZE];

	quote(quoted, m->name);
	if (strchr(m->name, ':') || has_blank(m->name))
		return report(e, c->file, s, "module name %s must hold neither ':' nor blanks", quoted);
	if (conf_is_attribute(m->name, strlen(m->name)))
		return report(e, c->file, s, "module name %s is taken: \"%s:...\" is an attribute of strands",
			      quoted, m->name);
	for (const struct conf_module *other = c->modules; other < m; other++) {
		if (strcmp(other->name, m->name) == 0)
			return report(e, c->file, s, "module %s is listed twice", quoted);
		if (same_name(other->table, m->table))
			return report(e, c->file, s, "modules \"%s\" and \"%s\" have the same table %s",
				      other->name, m->name, quote(quoted, m->table));
	}
	return 0;
}

static int add_module(struct conf *c, const char *name, const char *table)
{
	struct conf_module *m = &c->modules[c->n_modules++];

	m->name = strdup(name);
	m->table = strdup(table);
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

int lists_read_modules(struct conf *c, const config_setting_t *list, struct err *e)
{
	void *elements;
	int n, r;

	n = new_elements(c, list, "modules", sizeof(*c->modules), &elements, e);
	if (n < 0)
		return n;
	if (n == 0)
		return report(e, c->file, list,
			      "modules is empty; leave it out for the specification's three");
	c->modules = elements;
	for (int i = 0; i < n; i++) {
		const config_setting_t *s = config_setting_get_elem((config_setting_t *)list, (unsigned)i);
		struct conf_module *m = &c->modules[i];

		c->n_modules++;	/* first, so that what is half read is released */
		r = read_element(c, s, "module", &module_options, m, e);
		if (r == 0)
			r = check_module(c, s, m, e);
		if (r < 0)
			return r;
	}
	return 0;
}

static int unknown_module(const struct conf *c, const config_setting_t *s, const char *tag, struct err *e)
{
	char quoted[QUOTE_SIZE], name[CHANNEL_MAX_BYTES + 1];
	size_t len = strcspn(tag, ":");
	const char **names, *near = NULL;
	int r;

	memcpy(name, tag, len);
	name[len] = '\0';
	names = calloc(c->n_modules, sizeof(*names));
	if (!names)
		return no_memory(c, e);
	for (size_t i = 0; i < c->n_modules; i++)
		names[i] = c->modules[i].name;
	near = nearest(name, names, c->n_modules);
	quote(quoted, tag);
	if (near)
		r = report(e, c->file, s, "tag %s: no module \"%s\"; did you mean \"%s%s\"?", quoted,
			   name, near, tag + len);
	else
		r = report(e, c->file, s, "tag %s: no module \"%s\"; add it to modules", quoted, name);
	free(names);
	return r;
}

static int check_tag(const struct conf *c, const config_setting_t *s, const char *tag, struct err *e)
{
	const char *colon = strchr(tag, ':');
	char quoted[QUOTE_SIZE];

	quote(quoted, tag);
	if (!colon || colon == tag || !colon[1] || strchr(colon + 1, ':') || has_blank(tag))
		return report(e, c->file, s, "tag %s is not of the form <module>:<action>", quoted);
	/* The colon becomes '_': the channel is as long as the tag. */
	if (strlen(tag) > CHANNEL_MAX_BYTES)
		return report(e, c->file, s, "tag %s makes a channel of %zu bytes, at most %d are allowed",
			      quoted, strlen(tag), CHANNEL_MAX_BYTES);
	if (conf_is_attribute(tag, (size_t)(colon - tag)))
		return report(e, c->file, s, "tag %s is an attribute of strands and cannot be routed",
			      quoted);
	if (!conf_receiver(c, tag))
		return unknown_module(c, s, tag, e);
	return 0;
}

static bool same_channel(const char *a, const char *b)
{
	for (; *a && *b; a++, b++) {
		if ((*a == ':' ? '_' : *a) != (*b == ':' ? '_' : *b))
			return false;
	}
	return *a == *b;
}

static int check_route(const struct conf *c, const config_setting_t *s, const struct conf_route *route,
		       struct err *e)
{
	char quoted[QUOTE_SIZE], source[QUOTE_SIZE];
	int r;

	r = check_tag(c, s, route->tag, e);
	if (r < 0)
		return r;
	quote(quoted, route->tag);
	for (const struct conf_route *other = c->routes; other < route; other++) {
		if (!same_channel(other->tag, route->tag))
			continue;
		if (strcmp(other->tag, route->tag) != 0)
			return report(e, c->file, s, "tag %s has the channel of \"%s\" (line %d); rename one",
				      quoted, other->tag, other->line);
		if (same_name(other->source, route->source))
			return report(e, c->file, s, "the route of %s from %s is listed twice (line %d)",
				      quoted, quote(source, route->source), other->line);
	}
	return 0;
}

int lists_read_routes(struct conf *c, const config_setting_t *list, struct err *e)
{
	void *elements;
	int n, r;

	n = new_elements(c, list, "routes", sizeof(*c->routes), &elements, e);
	if (n < 0)
		return n;
	c->routes = elements;
	for (int i = 0; i < n; i++) {
		const config_setting_t *s = config_setting_get_elem((config_setting_t *)list, (unsigned)i);
		struct conf_route *route = &c->routes[i];

		c->n_routes++;	/* first, so that what is half read is released */
		route->line = (int)config_setting_source_line(s);
		r = read_element(c, s, "route", &route_options, route, e);
		if (r == 0)
			r = check_route(c, s, route, e);
		if (r < 0)
			return r;
	}
	return 0;
}

void lists_release(struct conf *c)
{
	for (size_t i = 0; i < c->n_modules; i++)
		values_release(&module_options, &c->modules[i]);
	for (size_t i = 0; i < c->n_routes; i++)
		values_release(&route_options, &c->routes[i]);
	free(c->modules);
	free(c->routes);
}
