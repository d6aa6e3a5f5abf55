#include "conf/option.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "conf/conf.h"
#include "conf/report.h"

#define MINUTE_MS INT64_C(60000)
#define DAY_MS (INT64_C(1440) * MINUTE_MS)
/* sockaddr_un's path, less its NUL. */
#define SOCKET_PATH_MAX 107
/* PostgreSQL's identifiers hold 63 bytes; quotes and a schema may stand around. */
#define NAME_MAX_BYTES 255

#define AT(field) offsetof(struct conf, field)

static const struct option options[] = {
	{ "module_communication.database.host", OPTION_STRING, NULL, 1, 4096, NULL, AT(db_host), false,
	  "Server: a name, an address, or the directory of its Unix socket; or several, with commas." },
	{ "module_communication.database.port", OPTION_PORT, NULL, 1, 65535, NULL, AT(db_port), false,
	  "Port of the server." },
	{ "module_communication.database.database", OPTION_DATABASE, NULL, 1, 4096, NULL, AT(db_name), false,
	  "Database that holds the modules' tables." },
	{ "module_communication.database.user", OPTION_STRING, NULL, 1, 4096, NULL, AT(db_user), false,
	  "Role to connect as; an ordinary one, see strandctl init." },
	{ "module_communication.database.password", OPTION_STRING, NULL, 1, 4096, NULL, AT(db_password), false,
	  "Password; better in ~/.pgpass or a service file." },
	{ "module_communication.database.service", OPTION_STRING, NULL, 1, 4096, NULL, AT(db_service), false,
	  "Service in libpq's service file, which then says all of the above." },
	{ "module_communication.database.search_path", OPTION_STRING, NULL, 1, 4096, "public",
	  AT(db_search_path), false,
	  "Schemas in which the names of tables and handlers are looked up." },
	{ "module_communication.database.connect_timeout_ms", OPTION_INT64, "ms", 100, 10 * MINUTE_MS,
	  "5000", AT(db_connect_timeout_ms), false,
	  "Give up an attempt to connect after this; another follows." },
	{ "module_communication.database.lock_timeout_ms", OPTION_INT64, "ms", 1, 10 * MINUTE_MS,
	  "2000", AT(db_lock_timeout_ms), false,
	  "Wait no longer than this for a lock." },
	{ "module_communication.database.idle_timeout_ms", OPTION_INT64, "ms", 1000, DAY_MS,
	  "300000", AT(db_idle_timeout_ms), false,
	  "Close a worker's connection that had nothing to do for this long." },
	{ "module_communication.database.max_lifetime_ms", OPTION_INT64, "ms", 1000, 7 * DAY_MS,
	  "3600000", AT(db_max_lifetime_ms), false,
	  "Renew a worker's connection that is older than this." },
	{ "module_communication.notifications.enabled", OPTION_BOOL, NULL, 0, 1, "true",
	  AT(notifications_enabled), false,
	  "Listen for notifications; without, strands are found by scanning alone." },
	{ "workers.threads", OPTION_INT, NULL, 1, 64, "4", AT(workers_threads), false,
	  "Worker threads, each with a connection of its own." },
	{ "workers.batch", OPTION_INT, "strands", 1, 1000, "100", AT(workers_batch), false,
	  "Most strands that one transaction handles." },
	{ "workers.handler_timeout_ms", OPTION_INT64, "ms", 10, DAY_MS, "30000", AT(handler_timeout_ms), false,
	  "Bound on the statement that handles one batch." },
	{ "queue.limit", OPTION_INT, "strands", 1, 10000000, "20000", AT(queue_limit), false,
	  "Most strands queued or running in memory; more are left to the scan." },
	{ "queue.bytes", OPTION_INT64, "bytes", 1024, INT64_C(1) << 40, "8388608", AT(queue_bytes), false,
	  "Most bytes that their ids may take." },
	{ "scan.interval_ms", OPTION_INT64, "ms", 10, DAY_MS, "5000", AT(scan_interval_ms), false,
	  "Time between two looks for strands that no notification told of." },
	{ "scan.page", OPTION_INT, "rows", 1, 100000, "1000", AT(scan_page), false,
	  "Rows that a scan reads at a time." },
	{ "stats.socket", OPTION_STRING, NULL, 1, SOCKET_PATH_MAX, NULL, AT(stats_socket), false,
	  "Unix socket that serves GET /metrics; none if left out." },
	{ "log.level", OPTION_LEVEL, NULL, 0, 0, "info", AT(log_level), false,
	  "error, warning, info or debug." },
	{ "stop_timeout_ms", OPTION_INT64, "ms", 0, 60 * MINUTE_MS, "20000", AT(stop_timeout_ms), false,
	  "When told to stop, give what runs this long to finish." },
};
const struct option_table conf_options = { options, sizeof(options) / sizeof(options[0]) };

static const struct option module_fields[] = {
	{ "name", OPTION_STRING, NULL, 1, 58, NULL, offsetof(struct conf_module, name), true,
	  "What stands before ':' in the tags that the module receives." },
	{ "table", OPTION_STRING, NULL, 1, NAME_MAX_BYTES, NULL, offsetof(struct conf_module, table), true,
	  "Table that the module owns, as SQL would name it." },
};
const struct option_table module_options = { module_fields,
					     sizeof(module_fields) / sizeof(module_fields[0]) };

static const struct option route_fields[] = {
	{ "tag", OPTION_STRING, NULL, 1, NAME_MAX_BYTES, NULL, offsetof(struct conf_route, tag), true,
	  "<module>:<action>; the module is the one that receives." },
	{ "source", OPTION_STRING, NULL, 1, NAME_MAX_BYTES, NULL, offsetof(struct conf_route, source), true,
	  "Table whose strands bear the tag." },
	{ "handler", OPTION_STRING, NULL, 1, NAME_MAX_BYTES, NULL, offsetof(struct conf_route, handler), true,
	  "SQL function that handles a strand." },
	{ "serial", OPTION_BOOL, NULL, 0, 1, "false", offsetof(struct conf_route, serial), false,
	  "One batch at a time over all workers and instances." },
};
const struct option_table route_options = { route_fields,
					    sizeof(route_fields) / sizeof(route_fields[0]) };

static void *field(const struct option *o, void *base)
{
	return (char *)base + o->offset;
}

static int store_text(const struct option *o, void *base, const char *text)
{
	char **place = field(o, base);
	char *copy = strdup(text);

	if (!copy)
		return STRAND_ENOMEM;
	free(*place);
	*place = copy;
	return 0;
}

static void store_number(const struct option *o, void *base, int64_t number)
{
	if (o->type == OPTION_INT)
		*(int *)field(o, base) = (int)number;
	else
		*(int64_t *)field(o, base) = number;
}

/* The table's own defaults: a test holds them valid. */
int options_default(const struct option_table *table, void *base)
{
	for (size_t i = 0; i < table->n; i++) {
		const struct option *o = &table->options[i];

		if (!o->fallback)
			continue;
		switch (o->type) {
		case OPTION_STRING:
		case OPTION_DATABASE:
		case OPTION_PORT:
			if (store_text(o, base, o->fallback) < 0)
				return STRAND_ENOMEM;
			break;
		case OPTION_INT:
		case OPTION_INT64:
			store_number(o, base, strtoll(o->fallback, NULL, 10));
			break;
		case OPTION_BOOL:
			*(bool *)field(o, base) = strcmp(o->fallback, "true") == 0;
			break;
		case OPTION_LEVEL:
			if (log_level_parse(o->fallback, field(o, base)) < 0)
				return STRAND_EINVAL;
			break;
		}
	}
	return 0;
}

void options_release(const struct option_table *table, void *base)
{
	for (size_t i = 0; i < table->n; i++) {
		const struct option *o = &table->options[i];

		if (o->type == OPTION_STRING || o->type == OPTION_DATABASE || o->type == OPTION_PORT)
			free(*(char **)field(o, base));
	}
}

static bool is_integer(const config_setting_t *s)
{
	int type = config_setting_type(s);

	return type == CONFIG_TYPE_INT || type == CONFIG_TYPE_INT64;
}

static int wrong_type(const struct option *o, const config_setting_t *s, const char *wanted,
		      const char *file, struct err *e)
{
	return report(e, file, s, "%s must be %s, not %s", o->path, wanted, setting_type_name(s));
}

static int read_text(const struct option *o, void *base, const config_setting_t *s, const char *file,
		     struct err *e)
{
	const char *text;
	size_t len;

	if (config_setting_type(s) != CONFIG_TYPE_STRING)
		return wrong_type(o, s, "a string in double quotes", file, e);
	text = config_setting_get_string(s);
	len = strlen(text);
	if (len == 0)
		return report(e, file, s, "%s must not be empty%s", o->path,
			      o->required ? "" : "; leave it out instead");
	if (o->type != OPTION_PORT && len > (size_t)o->max)
		return report(e, file, s, "%s is %zu bytes long, at most %" PRId64 " are allowed",
			      o->path, len, o->max);
	if (store_text(o, base, text) < 0)
		return err_set(e, STRAND_ENOMEM, "%s: out of memory", file);
	return 0;
}

/* libpq would take the place of every other setting from it.  The text is not
 * quoted: it may hold a password. */
static int read_database(const struct option *o, void *base, const config_setting_t *s, const char *file,
			 struct err *e)
{
	int r = read_text(o, base, s, file, e);
	const char *name = *(char **)field(o, base);

	if (r < 0 || (!strchr(name, '=') && !strstr(name, "://")))
		return r;
	return report(e, file, s, "%s must be a name alone, without '=' and '://'; host, user and password"
		      " have settings of their own", o->path);
}

static int read_number(const struct option *o, const config_setting_t *s, const char *file,
		       int64_t *ret_number, struct err *e)
{
	const char *unit = o->unit ? " " : "";
	int64_t number;

	if (!is_integer(s))
		return wrong_type(o, s, "a whole number", file, e);
	number = config_setting_get_int64(s);
	if (number < o->min || number > o->max)
		return report(e, file, s, "%s = %" PRId64 " is out of bounds: %" PRId64 " to %" PRId64 "%s%s",
			      o->path, number, o->min, o->max, unit, o->unit ? o->unit : "");
	*ret_number = number;
	return 0;
}

static int read_port(const struct option *o, void *base, const config_setting_t *s, const char *file,
		     struct err *e)
{
	char text[24];
	int64_t number;
	int r;

	/* Text may name several: "5432,5433" goes with several hosts. */
	if (config_setting_type(s) == CONFIG_TYPE_STRING)
		return read_text(o, base, s, file, e);
	r = read_number(o, s, file, &number, e);
	if (r < 0)
		return r;
	snprintf(text, sizeof(text), "%" PRId64, number);
	if (store_text(o, base, text) < 0)
		return err_set(e, STRAND_ENOMEM, "%s: out of memory", file);
	return 0;
}

static int read_level(const struct option *o, void *base, const config_setting_t *s, const char *file,
		      struct err *e)
{
	static const char wanted[] = "one of \"error\", \"warning\", \"info\", \"debug\"";
	char quoted[QUOTE_SIZE];

	if (config_setting_type(s) != CONFIG_TYPE_STRING)
		return wrong_type(o, s, wanted, file, e);
	if (log_level_parse(config_setting_get_string(s), field(o, base)) < 0)
		return report(e, file, s, "%s must be %s, not %s", o->path, wanted,
			      quote(quoted, config_setting_get_string(s)));
	return 0;
}

int option_read(const struct option *o, void *base, const config_setting_t *s, const char *file,
		struct err *e)
{
	int64_t number;
	int r;

	switch (o->type) {
	case OPTION_STRING:
		return read_text(o, base, s, file, e);
	case OPTION_DATABASE:
		return read_database(o, base, s, file, e);
	case OPTION_PORT:
		return read_port(o, base, s, file, e);
	case OPTION_LEVEL:
		return read_level(o, base, s, file, e);
	case OPTION_BOOL:
		if (config_setting_type(s) != CONFIG_TYPE_BOOL)
			return wrong_type(o, s, "true or false", file, e);
		*(bool *)field(o, base) = config_setting_get_bool(s) == CONFIG_TRUE;
		return 0;
	case OPTION_INT:
	case OPTION_INT64:
		r = read_number(o, s, file, &number, e);
		if (r == 0)
			store_number(o, base, number);
		return r;
	}
	return err_set(e, STRAND_EINVAL, "%s: %s has no type", file, o->path);
}
