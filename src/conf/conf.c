#include "conf/conf.h"

#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <libconfig.h>

#include "base/buf.h"
#include "conf/check.h"
#include "conf/file.h"
#include "conf/keys.h"
#include "conf/lists.h"
#include "conf/option.h"
#include "conf/overlay.h"
#include "conf/reading.h"
#include "conf/secret.h"
#include "conf/select.h"
#include "conf/setting.h"
#include "conf/source.h"
#include "conf/value.h"

enum { FILE_MAX_BYTES = 1 << 20 };

static const char *const lists[] = { "modules", "routes", NULL };

/* --- one file ---------------------------------------------------------------- */

static void apply_options(struct reading *r, const config_t *config)
{
	for (size_t i = 0; i < conf_options.n; i++) {
		const config_setting_t *s = config_lookup(config, conf_options.options[i].path);

		if (s && setting_read(r, &conf_options.options[i], r->conf, s))
			r->conf->places[i] = reading_place(r, s);
	}
}

static void syntax_error(struct reading *r, const config_t *config, const char *text)
{
	const struct place place = { r->file, config_error_line(config) };
	char near[QUOTE_SIZE / 2], quoted[QUOTE_SIZE];

	source_line(text, place.line, near, sizeof(near));
	if (secret_in_line(text, place.line))
		report_error(r->reports, &place, "%s here or before; the line is not shown, it may hold a password",
			     config_error_text(config));
	else if (near[0])
		report_error(r->reports, &place, "%s in or before %s", config_error_text(config),
			     quote(quoted, near));
	else
		report_error(r->reports, &place, "%s here or before", config_error_text(config));
}

static void apply(struct reading *r, const config_t *config, const struct file_access *access)
{
	const config_setting_t *s;

	keys_check(r, config_root_setting(config), &conf_options, lists);
	apply_options(r, config);
	s = config_lookup(config, "modules");
	if (s)
		lists_read_modules(r, s);
	s = config_lookup(config, "routes");
	if (s)
		lists_read_routes(r, s);
	secret_check(r, config, access);
}

/* `sound` is what source_check made of the text.  False: it does not parse, and that
 * has been reported. */
static bool parse_sound(struct reading *r, const char *text, const char *sound,
			const struct file_access *access)
{
	config_t config;
	bool good;

	config_init(&config);
	good = config_read_string(&config, sound);
	if (good)
		apply(r, &config, access);
	else
		syntax_error(r, &config, text);
	config_destroy(&config);
	return good;
}

static void parse(struct reading *r, const char *text, const struct file_access *access)
{
	struct buf sound;

	buf_init(&sound);
	if (!source_check(text, r, &sound))
		secret_check_text(r, text, access);
	else if (sound.failed)
		r->reports->no_memory = true;
	else if (!parse_sound(r, text, sound.data, access))
		secret_check_text(r, text, access);
	buf_release(&sound);
}

/* 0, or STRAND_ENOENT; all faults are reported. */
static int read_file(struct reading *r, const char *path)
{
	struct file_access access = { 0 };
	struct buf text;
	struct err e;
	int ret;

	r->file = reading_keep_name(r, path);
	if (!r->file)
		return 0;
	buf_init(&text);
	ret = file_read(&text, path, FILE_MAX_BYTES, &access, &e);
	if (ret == 0)
		parse(r, text.data, &access);
	else if (ret == STRAND_ENOENT)
		report_error(r->reports, &(struct place){ r->file, 0 },
			     "no such file; name another with --config FILE, or start from the sample strandd.conf");
	else
		report_err(r->reports, &(struct place){ r->file, 0 }, ret, &e);
	buf_release(&text);
	return ret == STRAND_ENOENT ? ret : 0;
}

/* --- conf.d ------------------------------------------------------------------ */

static int is_conf(const struct dirent *entry)
{
	size_t len = strlen(entry->d_name);

	return entry->d_name[0] != '.' && len > 5 && strcmp(entry->d_name + len - 5, ".conf") == 0;
}

/* As the C locale sorts, whatever ours is. */
static int by_bytes(const struct dirent **a, const struct dirent **b)
{
	return strcmp((*a)->d_name, (*b)->d_name);
}

static void read_directory(struct reading *r, const char *dir)
{
	struct dirent **entries = NULL;
	int n = scandir(dir, &entries, is_conf, by_bytes);

	if (n < 0 && errno != ENOENT && errno != ENOTDIR)
		report_error(r->reports, &(struct place){ reading_keep_name(r, dir), 0 },
			     "cannot look into it: %s", strerror(errno));
	for (int i = 0; i < n; i++) {
		char *path;

		if (asprintf(&path, "%s/%s", dir, entries[i]->d_name) < 0) {
			r->reports->no_memory = true;
		} else {
			(void)!read_file(r, path);
			free(path);
		}
		free(entries[i]);
	}
	free(entries);
}

static void read_beside(struct reading *r, const char *file)
{
	const char *slash = strrchr(file, '/');
	int len = slash ? (int)(slash - file) + 1 : 0;
	char *dir;

	if (asprintf(&dir, "%.*sconf.d", len, file) < 0) {
		r->reports->no_memory = true;
		return;
	}
	read_directory(r, dir);
	free(dir);
}

/* --- all --------------------------------------------------------------------- */

static struct conf *new_conf(void)
{
	struct conf *c = calloc(1, sizeof(*c));

	if (c)
		c->places = calloc(conf_options.n, sizeof(*c->places));
	if (c && (!c->places || values_default(&conf_options, c) < 0)) {
		conf_free(c);
		c = NULL;
	}
	return c;
}

/* What conf_reread needs. */
static int keep_request(struct conf *c, const struct conf_request *request)
{
	size_t n = 0;

	while (request->sets && request->sets[n])
		n++;
	c->file = strdup(request->file);
	c->sets = calloc(n + 1, sizeof(*c->sets));
	for (size_t i = 0; c->sets && i < n; i++) {
		c->sets[i] = strdup(request->sets[i]);
		if (!c->sets[i])
			return STRAND_ENOMEM;
	}
	return c->file && c->sets ? 0 : STRAND_ENOMEM;
}

static int read_all(struct reading *r, const struct conf_request *request)
{
	struct conf *c = r->conf;
	int ret = read_file(r, request->file);

	if (ret < 0)
		return ret;
	if (!c->modules && lists_default_modules(c) < 0)
		return STRAND_ENOMEM;
	read_beside(r, request->file);
	overlay_environment(r, request->environment);
	overlay_sets(r, request->sets);
	while (c->channels && c->channels[c->n_channels])
		c->n_channels++;
	check_conf(c, r->reports);
	secret_read(r, request->client);
	if (r->reports->n_errors == 0 && select_routes(c, r->reports) < 0)
		return STRAND_ENOMEM;
	return 0;
}

int conf_read(struct conf **ret_conf, const struct conf_request *request, struct reports *reports)
{
	struct reading r = { .conf = new_conf(), .reports = reports };
	int ret = r.conf ? keep_request(r.conf, request) : STRAND_ENOMEM;

	if (ret == 0)
		ret = read_all(&r, request);
	if (r.conf)
		reports_sort(reports, (const char *const *)r.conf->names, r.conf->n_names);
	if (ret == 0 && reports->no_memory)
		ret = STRAND_ENOMEM;
	if (ret == 0 && reports->n_errors)
		ret = STRAND_EINVAL;
	if (ret < 0)
		conf_free(r.conf);
	else
		*ret_conf = r.conf;
	return ret;
}

int conf_reread(struct conf **ret_conf, const struct conf *old, struct reports *reports)
{
	const struct conf_request request = { .file = old->file, .sets = (const char *const *)old->sets,
					      .environment = (const char *const *)environ };

	return conf_read(ret_conf, &request, reports);
}

static int first_error(const struct reports *reports, int code, struct err *e)
{
	for (size_t i = 0; i < reports->n; i++) {
		if (reports->list[i].warning)
			continue;
		if (reports->n_errors == 1)
			return err_set(e, code, "%s", reports->list[i].text);
		return err_set(e, code, "%s (and %zu more: strandd --check-config tells all)",
			       reports->list[i].text, reports->n_errors - 1);
	}
	return err_set(e, code, "out of memory");
}

int conf_load(struct conf **ret_conf, const char *path, struct err *e)
{
	const struct conf_request request = { .file = path, .environment = (const char *const *)environ, .client = true };
	struct reports reports = REPORTS_INIT;
	int ret = conf_read(ret_conf, &request, &reports);

	if (ret < 0)
		first_error(&reports, ret, e);
	reports_release(&reports);
	return ret;
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
