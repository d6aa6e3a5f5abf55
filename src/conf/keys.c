#include "conf/keys.h"

#include <stdio.h>
#include <string.h>

#include "base/nearest.h"
#include "conf/setting.h"

enum { PATH_SIZE = 256, NAMES_MAX = OPTIONS_MAX + 2, NAME_SIZE = 64 };	/* 2: modules, routes */

/* What is known in one group: the names that may stand there. */
struct known {
	char names[NAMES_MAX][NAME_SIZE];
	const char *list[NAMES_MAX];
	size_t n;
};

struct search {
	const struct option_table *table;
	const char *const *extra;
};

static void known_add(struct known *k, const char *name, size_t len)
{
	if (len >= NAME_SIZE || k->n == NAMES_MAX)
		return;
	for (size_t i = 0; i < k->n; i++) {
		if (strlen(k->names[i]) == len && memcmp(k->names[i], name, len) == 0)
			return;
	}
	memcpy(k->names[k->n], name, len);
	k->names[k->n][len] = '\0';
	k->list[k->n] = k->names[k->n];
	k->n++;
}

/* The group is the first `len` bytes of `path`: nothing, or "workers.". */
static void known_in(struct known *k, const struct search *s, const char *path, size_t len)
{
	k->n = 0;
	for (size_t i = 0; i < s->table->n; i++) {
		const char *known = s->table->options[i].path;

		if (strncmp(known, path, len) == 0)
			known_add(k, known + len, strcspn(known + len, "."));
	}
	for (const char *const *name = s->extra; name && *name && len == 0; name++)
		known_add(k, *name, strlen(*name));
}

/* The option that bears this name in another group, or NULL. */
static const char *elsewhere(const struct search *s, const char *name)
{
	for (size_t i = 0; i < s->table->n; i++) {
		const char *path = s->table->options[i].path;
		const char *dot = strrchr(path, '.');

		if (dot && strcmp(dot + 1, name) == 0)
			return path;
	}
	return NULL;
}

/* The option whose whole path is nearest: a group may be misspelt, too. */
static const char *nearest_option(const struct search *s, const char *path)
{
	const char *paths[NAMES_MAX];
	size_t n = 0;

	for (size_t i = 0; i < s->table->n && n < NAMES_MAX; i++)
		paths[n++] = s->table->options[i].path;
	return nearest_path(path, paths, n);
}

enum place_kind { PLACE_OPTION, PLACE_GROUP, PLACE_EXTRA, PLACE_NONE };

static enum place_kind find(const struct search *s, const char *path)
{
	size_t len = strlen(path);

	for (size_t i = 0; i < s->table->n; i++) {
		const char *known = s->table->options[i].path;

		if (strcmp(known, path) == 0)
			return PLACE_OPTION;
		if (strncmp(known, path, len) == 0 && known[len] == '.')
			return PLACE_GROUP;
	}
	for (const char *const *name = s->extra; name && *name; name++) {
		if (strcmp(*name, path) == 0)
			return PLACE_EXTRA;
	}
	return PLACE_NONE;
}

const char *keys_hint(char out[HINT_SIZE], const struct option_table *table, const char *const *extra,
		      const char *path)
{
	const struct search s = { table, extra };
	const char *dot = strrchr(path, '.'), *near, *whole;
	size_t group = dot ? (size_t)(dot - path) + 1 : 0;
	struct known known;
	int len;

	known_in(&known, &s, path, group);
	near = nearest(path + group, known.list, known.n);
	whole = near ? NULL : elsewhere(&s, path + group);
	if (!near && !whole)
		whole = nearest_option(&s, path);
	if (near) {
		snprintf(out, HINT_SIZE, "did you mean \"%.*s%s\"?", (int)group, path, near);
	} else if (whole) {
		snprintf(out, HINT_SIZE, "did you mean \"%s\"?", whole);
	} else {
		if (known.n == 0)
			known_in(&known, &s, path, 0);
		len = snprintf(out, HINT_SIZE, "known here:");
		for (size_t i = 0; i < known.n && len < HINT_SIZE; i++)
			len += snprintf(out + len, HINT_SIZE - (size_t)len, "%s %s", i ? "," : "",
					known.list[i]);
	}
	return out;
}

const struct option *keys_find(const struct option_table *table, const char *path)
{
	for (size_t i = 0; i < table->n; i++) {
		if (strcmp(table->options[i].path, path) == 0)
			return &table->options[i];
	}
	return NULL;
}

static void check_group(struct reading *r, const struct search *s, const config_setting_t *group,
			const char *prefix);

static void check_setting(struct reading *r, const struct search *s, const config_setting_t *c,
			  const char *prefix)
{
	char path[PATH_SIZE], quoted[QUOTE_SIZE], hint[HINT_SIZE];
	int len = snprintf(path, sizeof(path), "%s%s", prefix, config_setting_name(c));
	enum place_kind kind = len < PATH_SIZE - 2 ? find(s, path) : PLACE_NONE;

	if (kind == PLACE_NONE) {
		reading_error(r, c, "unknown setting %s; %s", quote(quoted, path),
			      keys_hint(hint, s->table, s->extra, path));
	} else if (kind == PLACE_GROUP && config_setting_type(c) != CONFIG_TYPE_GROUP) {
		reading_error(r, c, "%s must be a group in { }, not %s", path, setting_type_name(c));
	} else if (kind == PLACE_GROUP) {
		strcat(path, ".");
		check_group(r, s, c, path);
	}
}

/* Depth is bounded by the tables' paths: unknown groups are not entered. */
static void check_group(struct reading *r, const struct search *s, const config_setting_t *group,
			const char *prefix)
{
	int n = config_setting_length(group);

	for (int i = 0; i < n; i++)
		check_setting(r, s, config_setting_get_elem((config_setting_t *)group, (unsigned)i), prefix);
}

void keys_check(struct reading *r, const config_setting_t *group, const struct option_table *table,
		const char *const *extra)
{
	const struct search s = { table, extra };

	check_group(r, &s, group, "");
}
