#include "conf/overlay.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/nearest.h"
#include "conf/keys.h"
#include "conf/secret.h"
#include "conf/value.h"

/* Sets a value and remembers where it came from. */
static void set(struct reading *r, const struct option *o, const struct place *place, const char *text)
{
	struct err e;
	int ret = value_set(o, r->conf, text, &e);

	report_err(r->reports, place, ret, &e);
	if (ret == 0)
		r->conf->places[o - conf_options.options] = *place;
}

/* --- environment ------------------------------------------------------------- */

const char *overlay_variable(char out[VARIABLE_SIZE], const struct option *o)
{
	snprintf(out, VARIABLE_SIZE, VARIABLE_PREFIX "%s", o->path);
	for (char *p = out; *p; p++)
		*p = (char)(*p == '.' ? '_' : toupper((unsigned char)*p));
	return out;
}

static const struct option *option_of(const char *variable)
{
	char name[VARIABLE_SIZE];

	for (size_t i = 0; i < conf_options.n; i++) {
		if (strcmp(overlay_variable(name, &conf_options.options[i]), variable) == 0)
			return &conf_options.options[i];
	}
	return NULL;
}

/* Those that tests, builds and failpoints know. */
static bool is_not_ours(const char *variable)
{
	static const char *const starts[] = { "FAILPOINTS", "BUILD", "WRAPPER" };

	for (size_t i = 0; i < sizeof(starts) / sizeof(starts[0]); i++) {
		if (strncmp(variable + strlen(VARIABLE_PREFIX), starts[i], strlen(starts[i])) == 0)
			return true;
	}
	return false;
}

/* STRANDD_THREADS: the end of an option's name, behind an underscore. */
static bool ends_with(const char *name, const char *end)
{
	size_t len = strlen(name), n = strlen(end);

	return n > 0 && len > n && name[len - n - 1] == '_' && strcmp(name + len - n, end) == 0;
}

static void warn_if_near(struct reading *r, const char *variable)
{
	char names[OPTIONS_MAX][VARIABLE_SIZE];
	const char *list[OPTIONS_MAX] = { 0 }, *near, *rest = variable + strlen(VARIABLE_PREFIX);
	size_t n = 0;

	for (; n < conf_options.n && n < OPTIONS_MAX; n++)
		list[n] = overlay_variable(names[n], &conf_options.options[n]) + strlen(VARIABLE_PREFIX);
	near = nearest_path(rest, list, n);
	for (size_t i = 0; i < n && !near; i++)
		near = ends_with(list[i], rest) ? list[i] : NULL;
	if (near)
		report_warning(r->reports, &(struct place){ "environment", 0 },
			       "%.80s is no setting and counts for nothing; did you mean " VARIABLE_PREFIX
			       "%s?", variable, near);
}

static void take_variable(struct reading *r, const char *variable, const char *value)
{
	const struct option *o = option_of(variable);
	char where[VARIABLE_SIZE + 32];
	struct place place = { 0 };

	if (!o) {
		if (!is_not_ours(variable))
			warn_if_near(r, variable);
		return;
	}
	snprintf(where, sizeof(where), "environment variable %s", variable);
	place.where = reading_keep_name(r, where);
	if (place.where)
		set(r, o, &place, value);
}

void overlay_environment(struct reading *r, const char *const *environment)
{
	for (; environment && *environment; environment++) {
		const char *equals = strchr(*environment, '=');
		char *variable;

		if (!equals || strncmp(*environment, VARIABLE_PREFIX, strlen(VARIABLE_PREFIX)) != 0)
			continue;
		variable = strndup(*environment, (size_t)(equals - *environment));
		if (variable)
			take_variable(r, variable, equals + 1);
		else
			r->reports->no_memory = true;
		free(variable);
	}
}

/* --- --set ------------------------------------------------------------------- */

static bool is_list(const char *path)
{
	return strncmp(path, "modules", 7) == 0 || strncmp(path, "routes", 6) == 0;
}

static bool is_group(const char *path)
{
	size_t len = strlen(path);

	for (size_t i = 0; i < conf_options.n; i++) {
		const char *known = conf_options.options[i].path;

		if (strncmp(known, path, len) == 0 && known[len] == '.')
			return true;
	}
	return false;
}

static void unknown_path(struct reading *r, const struct place *place, const char *path)
{
	char quoted[QUOTE_SIZE], hint[HINT_SIZE], group[256];

	quote(quoted, path);
	snprintf(group, sizeof(group), "%.250s.", path);
	if (is_list(path))
		report_error(r->reports, place, "%s: modules and routes stand in files only, such as one in conf.d",
			     quoted);
	else if (is_group(path))
		report_error(r->reports, place, "%s is a group; %s", quoted,
			     keys_hint(hint, &conf_options, NULL, group));
	else
		report_error(r->reports, place, "unknown setting %s; %s", quoted,
			     keys_hint(hint, &conf_options, NULL, path));
}

/* The value may be a password, also where the path is misspelt: it is not told. */
static void take_set(struct reading *r, const char *path, const char *value)
{
	static const struct place place = { "--set", 0 };
	const struct option *o = keys_find(&conf_options, path);

	if (!o)
		unknown_path(r, &place, path);
	else if (o->secret)
		report_error(r->reports, &place,
			     "%s is refused, because everybody can see arguments; say it in a password_file,"
			     " ~/.pgpass or a service file", path);
	else
		set(r, o, &place, value);
}

void overlay_sets(struct reading *r, const char *const *sets)
{
	for (; sets && *sets; sets++) {
		const char *equals = strchr(*sets, '=');
		char quoted[QUOTE_SIZE], *path;

		if (!equals) {
			report_error(r->reports, &(struct place){ "--set", 0 },
				     "%s is not of the form path=value, such as workers.threads=8",
				     secret_in_text(*sets) ? "one" : quote(quoted, *sets));
			continue;
		}
		path = strndup(*sets, (size_t)(equals - *sets));
		if (path)
			take_set(r, path, equals + 1);
		else
			r->reports->no_memory = true;
		free(path);
	}
}
