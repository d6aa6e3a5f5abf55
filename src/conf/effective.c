/* What has been read: its questions and its end. */
#include "conf/conf.h"

#include <stdlib.h>
#include <string.h>

#include "conf/lists.h"
#include "conf/option.h"
#include "conf/reading.h"
#include "conf/value.h"

const char *reading_keep_name(struct reading *r, const char *name)
{
	struct conf *c = r->conf;
	char **names = realloc(c->names, (c->n_names + 2) * sizeof(*names));

	if (names) {
		c->names = names;
		names[c->n_names] = strdup(name);
		names[c->n_names + 1] = NULL;
		if (names[c->n_names])
			return names[c->n_names++];
	}
	r->reports->no_memory = true;
	return NULL;
}

static void strings_free(char **strings)
{
	for (char **s = strings; s && *s; s++)
		free(*s);
	free(strings);
}

void conf_free(struct conf *c)
{
	if (!c)
		return;
	values_release(&conf_options, c);
	lists_release(c);
	strings_free(c->names);
	strings_free(c->sets);
	free(c->places);
	free(c->file);
	free(c);
}

const struct option *conf_next_change(const struct conf *old, const struct conf *new, size_t *at)
{
	while (*at < conf_options.n) {
		const struct option *o = &conf_options.options[(*at)++];

		if (!value_equal(o, old, new))
			return o;
	}
	return NULL;
}

const struct conf_module *conf_receiver(const struct conf *c, const char *tag)
{
	size_t len = strcspn(tag, ":");

	if (!tag[len])
		return NULL;
	for (size_t i = 0; i < c->n_modules; i++) {
		const char *name = c->modules[i].name;

		if (name && strlen(name) == len && memcmp(name, tag, len) == 0)
			return &c->modules[i];
	}
	return NULL;
}

bool conf_is_attribute(const char *module, size_t len)
{
	static const char *const names[] = { "priority", "timeout", "original_strand", "error" };

	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		if (strlen(names[i]) == len && memcmp(names[i], module, len) == 0)
			return true;
	}
	return false;
}
