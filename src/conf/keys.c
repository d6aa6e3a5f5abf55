#include "conf/keys.h"

#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#include "base/nearest.h"
#include "conf/report.h"

enum { PATH_SIZE = 256, NAMES_MAX = 64, NAME_SIZE = 64 };

/* What is known in one group: the names that may stand there. */
struct known {
	char names[NAMES_MAX][NAME_SIZE];
	const char *list[NAMES_MAX];
	size_t n;
};

struct search {
	const struct option_table *table;
	const char *const *extra;
	const char *file;
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

/* `prefix` is "" or ends with a dot. */
static void known_in(struct known *k, const struct search *s, const char *prefix)
{
	size_t len = strlen(prefix);

	k->n = 0;
	for (size_t i = 0; i < s->table->n; i++) {
		const char *path = s->table->options[i].path;

		if (strncmp(path, prefix, len) == 0)
			known_add(k, path + len, strcspn(path + len, "."));
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

static int unknown(const struct search *s, const char *prefix, const config_setting_t *setting,
		   struct err *e)
{
	const char *name = config_setting_name(setting);
	char path[PATH_SIZE], quoted[QUOTE_SIZE], hint[PATH_SIZE + 32];
	struct known known;
	const char *near;
	int len;

	known_in(&known, s, prefix);
	near = nearest(name, known.list, known.n);
	if (near) {
		snprintf(hint, sizeof(hint), "did you mean \"%s%s\"?", prefix, near);
	} else if (elsewhere(s, name)) {
		snprintf(hint, sizeof(hint), "did you mean \"%s\"?", elsewhere(s, name));
	} else {
		len = snprintf(hint, sizeof(hint), "known here:");
		for (size_t i = 0; i < known.n && len < (int)sizeof(hint); i++)
			len += snprintf(hint + len, sizeof(hint) - (size_t)len, "%s %s",
					i ? "," : "", known.list[i]);
	}
	snprintf(path, sizeof(path), "%s%s", prefix, name);
	return report(e, s->file, setting, "unknown setting %s; %s", quote(quoted, path), hint);
}

enum place { PLACE_OPTION, PLACE_GROUP, PLACE_EXTRA, PLACE_NONE };

static enum place find(const struct search *s, const char *path)
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

/* Depth is bounded by the tables' paths: unknown groups are not entered. */
static int check_group(const struct search *s, const config_setting_t *group, const char *prefix,
		       struct err *e)
{
	int n = config_setting_length(group);
	char path[PATH_SIZE];
	int r = 0;

	for (int i = 0; i < n && r == 0; i++) {
		const config_setting_t *c = config_setting_get_elem((config_setting_t *)group,
								    (unsigned)i);
		int len = snprintf(path, sizeof(path), "%s%s", prefix, config_setting_name(c));
		enum place place = len < PATH_SIZE - 2 ? find(s, path) : PLACE_NONE;

		if (place == PLACE_NONE) {
			r = unknown(s, prefix, c, e);
		} else if (place == PLACE_GROUP) {
			if (config_setting_type(c) != CONFIG_TYPE_GROUP)
				return report(e, s->file, c, "%s must be a group in { }, not %s",
					      path, setting_type_name(c));
			strcat(path, ".");
			r = check_group(s, c, path, e);
		}
	}
	return r;
}

int keys_check(const config_setting_t *group, const struct option_table *table,
	       const char *const *extra, const char *file, struct err *e)
{
	const struct search s = { table, extra, file };

	return check_group(&s, group, "", e);
}
