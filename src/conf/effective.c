/* What has been read: its questions and its end. */
#include "conf/conf.h"

#include <stdlib.h>
#include <string.h>

#include "conf/lists.h"
#include "conf/option.h"
#include "conf/value.h"

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
