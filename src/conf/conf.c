#include "conf/conf.h"

#include <stdlib.h>
#include <string.h>

#include <libconfig.h>

#include "base/buf.h"
#include "conf/keys.h"
#include "conf/lists.h"
#include "conf/option.h"
#include "conf/report.h"
#include "conf/source.h"
#include "conf/value.h"

static const char *const lists[] = { "modules", "routes", NULL };

static int apply_options(struct conf *c, const config_t *config, struct err *e)
{
	for (size_t i = 0; i < conf_options.n; i++) {
		const struct option *o = &conf_options.options[i];
		const config_setting_t *s = config_lookup(config, o->path);
		int r = s ? setting_read(o, c, s, c->file, e) : 0;

		if (r < 0)
			return r;
	}
	while (c->channels && c->channels[c->n_channels])
		c->n_channels++;
	return 0;
}

static int apply_lists(struct conf *c, const config_t *config, struct err *e)
{
	const config_setting_t *s = config_lookup(config, "modules");
	int r;

	if (s)
		r = lists_read_modules(c, s, e);
	else if (lists_default_modules(c) < 0)
		r = err_set(e, STRAND_ENOMEM, "%s: out of memory", c->file);
	else
		r = 0;
	if (r < 0)
		return r;
	s = config_lookup(config, "routes");
	return s ? lists_read_routes(c, s, e) : 0;
}

static int syntax_error(const struct conf *c, const config_t *config, const char *text, struct err *e)
{
	int line = config_error_line(config);
	char near[QUOTE_SIZE / 2], quoted[QUOTE_SIZE];

	source_line(text, line, near, sizeof(near));
	if (!near[0])
		return report_line(e, c->file, line, "%s here or before", config_error_text(config));
	return report_line(e, c->file, line, "%s in or before %s", config_error_text(config),
			   quote(quoted, near));
}

static int parse(struct conf *c, config_t *config, const char *text, struct err *e)
{
	int r = source_check(text, c->file, e);

	if (r < 0)
		return r;
	if (!config_read_string(config, text))
		return syntax_error(c, config, text, e);
	r = keys_check(config_root_setting(config), &conf_options, lists, c->file, e);
	if (r == 0)
		r = apply_options(c, config, e);
	if (r == 0)
		r = apply_lists(c, config, e);
	return r;
}

static int load(struct conf *c, struct err *e)
{
	bool open_to_others = false;
	struct buf text;
	config_t config;
	int r;

	buf_init(&text);
	r = source_read(&text, c->file, &open_to_others, e);
	if (r == 0) {
		config_init(&config);
		r = parse(c, &config, text.data, e);
		config_destroy(&config);
	}
	buf_release(&text);
	if (r == 0 && open_to_others && c->db_password)
		log_warning("%s: holds a password and others can read it; chmod 600 it, or use ~/.pgpass",
			    c->file);
	return r;
}

static struct conf *new_conf(void)
{
	struct conf *c = calloc(1, sizeof(*c));

	if (c && values_default(&conf_options, c) < 0) {
		conf_free(c);
		c = NULL;
	}
	return c;
}

int conf_load(struct conf **ret_conf, const char *path, struct err *e)
{
	struct conf *c = new_conf();
	int r;

	if (c)
		c->file = strdup(path);
	if (!c || !c->file)
		r = err_set(e, STRAND_ENOMEM, "%s: out of memory", path);
	else
		r = load(c, e);
	if (r < 0) {
		conf_free(c);
		return r;
	}
	*ret_conf = c;
	return 0;
}

int conf_default(struct conf **ret_conf)
{
	struct conf *c = new_conf();

	if (!c || lists_default_modules(c) < 0) {
		conf_free(c);
		return STRAND_ENOMEM;
	}
	*ret_conf = c;
	return 0;
}

void conf_free(struct conf *c)
{
	if (!c)
		return;
	values_release(&conf_options, c);
	lists_release(c);
	free(c->file);
	free(c);
}

const struct conf_module *conf_receiver(const struct conf *c, const char *tag)
{
	size_t len = strcspn(tag, ":");

	if (!tag[len])
		return NULL;
	for (size_t i = 0; i < c->n_modules; i++) {
		const char *name = c->modules[i].name;

		if (strlen(name) == len && memcmp(name, tag, len) == 0)
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
