#include "conf/conf.h"

#include <check.h>
#include <ctype.h>
#include <inttypes.h>
#include <libconfig.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/buf.h"
#include "conf/keys.h"
#include "conf/option.h"
#include "conf/report.h"

static char path[PATH_MAX];

static void make_path(void)
{
	snprintf(path, sizeof(path), "test_conf.%d.conf", (int)getpid());
}

static void remove_path(void)
{
	unlink(path);
}

static void write_bytes(const char *text, size_t len)
{
	FILE *f = fopen(path, "w");

	ck_assert_ptr_nonnull(f);
	ck_assert_uint_eq(fwrite(text, 1, len, f), len);
	ck_assert_int_eq(fclose(f), 0);
}

static struct conf *load_text(const char *text)
{
	struct conf *c = NULL;
	struct err e = { 0 };

	write_bytes(text, strlen(text));
	ck_assert_msg(conf_load(&c, path, &e) == 0, "%s", e.text);
	return c;
}

START_TEST(empty_file_gives_defaults)
{
	struct conf *c = load_text("");

	ck_assert_str_eq(c->file, path);
	ck_assert_ptr_null(c->db_host);
	ck_assert_ptr_null(c->db_password);
	ck_assert_str_eq(c->db_search_path, "public");
	ck_assert_int_eq(c->db_connect_timeout_ms, 5000);
	ck_assert_int_eq(c->db_lock_timeout_ms, 2000);
	ck_assert_int_eq(c->db_idle_timeout_ms, 300000);
	ck_assert_int_eq(c->db_max_lifetime_ms, 3600000);
	ck_assert(c->notifications_enabled);
	ck_assert_int_eq(c->workers_threads, 4);
	ck_assert_int_eq(c->workers_batch, 100);
	ck_assert_int_eq(c->handler_timeout_ms, 30000);
	ck_assert_int_eq(c->queue_limit, 20000);
	ck_assert_int_eq(c->queue_bytes, 8388608);
	ck_assert_int_eq(c->scan_interval_ms, 5000);
	ck_assert_int_eq(c->scan_page, 1000);
	ck_assert_int_eq(c->stop_timeout_ms, 20000);
	ck_assert_ptr_null(c->stats_socket);
	ck_assert_int_eq(c->log_level, LOG_LEVEL_INFO);
	ck_assert_uint_eq(c->n_modules, 3);
	ck_assert_str_eq(c->modules[1].name, "dm");
	ck_assert_str_eq(c->modules[1].table, "DM_strands");
	ck_assert_uint_eq(c->n_routes, 0);
	conf_free(c);
}
END_TEST

START_TEST(defaults_without_a_file)
{
	struct conf *c = NULL;

	ck_assert_int_eq(conf_default(&c), 0);
	ck_assert_ptr_null(c->file);
	ck_assert_uint_eq(c->n_modules, 3);
	ck_assert_int_eq(c->workers_threads, 4);
	conf_free(c);
	conf_free(NULL);
}
END_TEST

START_TEST(everything_given)
{
	struct conf *c = load_text(
		"module_communication: { database: { host = \"/run/pg\"; port = 5433; database = \"d\";\n"
		"  user = \"u\"; service = \"s\"; search_path = \"a, \\\"B c\\\"\";\n"
		"  connect_timeout = \"100ms\"; lock_timeout = \"1ms\"; idle_timeout = \"1s\";\n"
		"  max_lifetime = \"7d\"; };\n"
		"  notifications: { enabled = false; channels = [ \"a_b\", \"c\" ]; };\n"
		"  cleanup: { enabled = true; retention_days = 30; pause = \"2min\"; }; };\n"
		"workers: { threads = 64; batch = 1; reserved_for_high = 0x3; handler_timeout = \"1.5s\"; };\n"
		"queue: { limit = 5; bytes = \"4GiB\"; };\n"
		"scan: { interval = \"10ms\"; page = 7; };\n"
		"modules = ( { name = \"risk\"; table = \"rk.RK_strands\"; } );\n"
		"# a comment with 99999999999 and \"\n"
		"/* and\n 99999999999 */\n"
		"routes = (\n"
		"  { tag = \"risk:check\"; source = \"AD_strands\"; handler = \"f\"; serial = true;\n"
		"    attempts = 1; backoff: { initial = \"2s\"; factor = 1.5; cap = \"1d\"; }; timeout = \"90s\"; },\n"
		"  { tag = \"risk:check\"; source = \"TR_strands\"; handler = \"99999999999\"; }\n"
		");\n"
		"stats: { socket = \"/tmp/s\"; };\n"
		"log: { level = \"debug\"; };\n"
		"stop_timeout = \"0s\";\n");

	ck_assert_str_eq(c->db_host, "/run/pg");
	ck_assert_str_eq(c->db_port, "5433");
	ck_assert_str_eq(c->db_name, "d");
	ck_assert_str_eq(c->db_user, "u");
	ck_assert_str_eq(c->db_service, "s");
	ck_assert_str_eq(c->db_search_path, "a, \"B c\"");
	ck_assert_int_eq(c->db_idle_timeout_ms, 1000);
	ck_assert(!c->notifications_enabled);
	ck_assert_int_eq(c->workers_threads, 64);
	ck_assert_int_eq(c->handler_timeout_ms, 1500);
	ck_assert_int_eq(c->workers_reserved_for_high, 3);
	ck_assert_uint_eq(c->n_channels, 2);
	ck_assert_str_eq(c->channels[1], "c");
	ck_assert(c->cleanup_enabled);
	ck_assert_int_eq(c->cleanup_pause_ms, 120000);
	ck_assert_int_eq(c->queue_bytes, INT64_C(4294967296));
	ck_assert_uint_eq(c->n_modules, 1);
	ck_assert_uint_eq(c->n_routes, 2);
	ck_assert(c->routes[0].serial);
	ck_assert(!c->routes[1].serial);
	ck_assert_int_eq(c->routes[0].attempts, 1);
	ck_assert_int_eq(c->routes[0].backoff_initial_ms, 2000);
	ck_assert(c->routes[0].backoff_factor > 1.49 && c->routes[0].backoff_factor < 1.51);
	ck_assert_int_eq(c->routes[0].timeout_ms, 90000);
	ck_assert_int_eq(c->routes[1].attempts, 5);
	ck_assert_int_eq(c->routes[1].backoff_cap_ms, 300000);
	ck_assert_int_eq(c->routes[1].timeout_ms, 0);
	ck_assert_int_eq(c->routes[1].suspend_after, 20);
	ck_assert_int_eq(c->routes[0].line, 15);
	ck_assert_str_eq(c->routes[1].source, "TR_strands");
	ck_assert_int_eq(c->log_level, LOG_LEVEL_DEBUG);
	ck_assert_int_eq(c->stop_timeout_ms, 0);
	ck_assert_ptr_eq(conf_receiver(c, "risk:check"), &c->modules[0]);
	ck_assert_ptr_null(conf_receiver(c, "ris:check"));
	ck_assert_ptr_null(conf_receiver(c, "risk"));
	conf_free(c);
}
END_TEST

START_TEST(port_may_be_text)
{
	struct conf *c = load_text("module_communication: { database: { port = \"5432,5433\"; }; };");

	ck_assert_str_eq(c->db_port, "5432,5433");
	conf_free(c);
}
END_TEST

#define R(fields) "routes = ( { " fields " } );"
#define RT(tag) R("tag = \"" tag "\"; source = \"AD_strands\"; handler = \"f\";")
#define X58 "1234567890123456789012345678901234567890123456789012345678"

/* What the file holds, and what the message must hold after "file:line: ". */
static const struct bad {
	const char *text;
	int line;	/* 0: the message names none */
	const char *message;
} bad_files[] = {
	/* syntax */
	{ "workers: {\n threads = = 4;\n};", 2, "syntax error in or before \"threads = = 4;\"" },
	{ "workers: { threads = 4;", 1, "syntax error" },
	{ "a\n\n=\n", 4, "syntax error here or before" },
	{ "workers: { threads = 4; };\nworkers: { batch = 4; };", 2, "duplicate setting name" },
	{ "\n@include \"other.conf\"\n", 2, "@include is refused" },
	/* unknown names */
	{ "worker: { threads = 4; };", 1, "unknown setting \"worker\"; did you mean \"workers\"?" },
	{ "workers: {\n\n thraeds = 4; };", 3, "unknown setting \"workers.thraeds\"; did you mean \"workers.threads\"?" },
	{ "workers: { colour = 4; };", 1, "known here: threads, batch, max_batch_bytes" },
	{ "host = \"x\";", 1, "did you mean \"module_communication.database.host\"?" },
	{ "module_communication: { databse: { }; };", 1, "did you mean \"module_communication.database\"?" },
	{ "module_communication: { modules = (); };", 1, "unknown setting \"module_communication.modules\"" },
	{ "route = ();", 1, "did you mean \"routes\"?" },
	{ "Workers: { };", 1, "did you mean \"workers\"?" },
	/* types */
	{ "workers: { threads = \"4\"; };", 1, "workers.threads must be a whole number, not a string" },
	{ "workers: { threads = 4.0; };", 1, "must be a whole number, not a number with a fraction" },
	{ "workers: { threads = true; };", 1, "must be a whole number, not true or false" },
	{ "workers: { threads = [ 4 ]; };", 1, "must be a whole number, not an array in [ ]" },
	{ "workers = 4;", 1, "workers must be a group in { }, not a whole number" },
	{ "log: { level: { a = 1; }; };", 1, "log.level must be one of" },
	{ "log: { level = \"inf\\\"o\\n\"; };", 1, "not \"inf\\\"o\\x0a\"" },
	{ "log: { level = 3; };", 1, "log.level must be one of" },
	{ "module_communication: { notifications: { enabled = 1; }; };", 1, "enabled must be true or false, not a whole number" },
	{ "module_communication: { database: { host = 1; }; };", 1, "host must be a string in double quotes, not a whole number" },
	{ "module_communication: { database: { host = \"\"; }; };", 1, "must not be empty; leave it out instead" },
	{ "module_communication: { database: {\n database = \"x y=z\"; }; };", 2, "database.database must be a name alone" },
	{ "module_communication: { database: { database = \"postgresql://x\"; }; };", 1, "must be a name alone" },
	{ "module_communication: { database: { port = 65536; }; };", 1, "port = 65536 is out of bounds: 1 to 65535" },
	{ "module_communication: { database: { port = 1.5; }; };", 1, "must be a whole number" },
	{ "module_communication: { database = 5; };", 1, "module_communication.database must be a group" },
	/* bounds */
	{ "workers: { threads = 0; };", 1, "workers.threads = 0 is out of bounds: 1 to 64" },
	{ "workers: { threads = 65; };", 1, "out of bounds" },
	{ "workers: { threads = -4; };", 1, "workers.threads = -4 is out of bounds" },
	{ "workers: { threads = 4294967300L; };", 1, "workers.threads = 4294967300 is out of bounds" },
	{ "workers: { batch = 1001; };", 1, "1 to 1000 strands" },
	{ "stop_timeout = \"61min\";", 1, "stop_timeout = 61min is out of bounds: 0ms to 1h" },
	{ "stop_timeout = \"-1s\";", 1, "stop_timeout must be a number and its unit such as \"20s\", not \"-1s\"" },
	{ "stop_timeout = 20000;", 1, "stop_timeout = 20000 lacks its unit: write \"20000ms\"" },
	{ "stop_timeout = \"20\";", 1, "stop_timeout = 20 lacks its unit" },
	{ "stop_timeout = \"2 weeks\";", 1, "not \"2 weeks\" (units: ms, s, min, h, d)" },
	{ "stop_timeout = \"0.0005s\";", 1, "is no whole number of milliseconds" },
	{ "stop_timeout_ms = 20000;", 1, "did you mean \"stop_timeout\"?" },
	{ "stats: { socket = \"/12345678901234567890123456789012345678901234567890123456789012345678901234567890123456789012345678901234567\"; };",
	  1, "stats.socket is 108 bytes long, at most 107 are allowed" },
	/* numbers that libconfig would bend in silence */
	{ "queue: {\n limit = 4294968320; };", 2, "the number 4294968320 does not fit in 32 bits; write 4294968320L" },
	{ "queue: { limit = 2147483648; };", 1, "does not fit in 32 bits" },
	{ "queue: { limit = 0x100000400; };", 1, "the number 0x100000400 does not fit" },
	{ "queue: { limit = -3000000000; };", 1, "the number -3000000000 does not fit" },
	{ "queue: { limit = 99999999999999999999L; };", 1, "is too large" },
	{ "queue: { limit = 1.0e999; };", 1, "the number 1.0e999 is too large" },
	{ "queue: { limit = 1e6; };", 1, "write the number 1e6 in full" },
	/* modules */
	{ "modules = 1;", 1, "modules must be a list in ( ) of groups in { }, not a whole number" },
	{ "modules = ();", 1, "modules is empty" },
	{ "modules = ( 1 );", 1, "a module must be a group in { }, not a whole number" },
	{ "modules = ( { name = \"a\"; } );", 1, "this module lacks \"table\"" },
	{ "modules = ( { name = \"\"; table = \"t\"; } );", 1, "name must not be empty" },
	{ "modules = ( { nam = \"a\"; table = \"t\"; } );", 1, "unknown setting \"nam\"; did you mean \"name\"?" },
	{ "modules = ( { name = \"a:b\"; table = \"t\"; } );", 1, "neither ':' nor blanks" },
	{ "modules = ( { name = \"a b\"; table = \"t\"; } );", 1, "neither ':' nor blanks" },
	{ "modules = ( { name = \"timeout\"; table = \"t\"; } );", 1, "is taken" },
	{ "modules = ( { name = \"a\"; table = \"t\"; },\n{ name = \"a\"; table = \"u\"; } );", 2, "module \"a\" is listed twice" },
	{ "modules = ( { name = \"a\"; table = \"AD_strands\"; },\n{ name = \"b\"; table = \"ad_strands\"; } );", 2, "have the same table" },
	/* routes */
	{ "routes = { };", 1, "routes must be a list" },
	{ "routes = ( ( ) );", 1, "a route must be a group in { }, not a list in ( )" },
	{ R("source = \"a\"; handler = \"f\";"), 1, "this route lacks \"tag\"" },
	{ R("tag = \"dm:x\"; handler = \"f\";"), 1, "this route lacks \"source\"" },
	{ "\n" R("tag = \"dm:x\"; source = \"a\";"), 2, "this route lacks \"handler\"" },
	{ R("tag = \"dm:x\"; source = \"a\"; handler = \"f\"; serail = true;"), 1, "did you mean \"serial\"?" },
	{ R("tag = \"dm:x\"; source = \"a\"; handler = \"f\"; serial = 1;"), 1, "serial must be true or false" },
	{ R("tag = 5; source = \"a\"; handler = \"f\";"), 1, "tag must be a string" },
	{ RT("dm"), 1, "tag \"dm\" is not of the form <module>:<action>" },
	{ RT(":x"), 1, "is not of the form" },
	{ RT("dm:"), 1, "is not of the form" },
	{ RT("dm:x:y"), 1, "is not of the form" },
	{ RT("dm:x y"), 1, "is not of the form" },
	{ RT("priority:high"), 1, "is an attribute" },
	{ RT("original_strand:AD_1"), 1, "is an attribute" },
	{ RT("tradr:execute"), 1, "no module \"tradr\"; did you mean \"trader:execute\"?" },
	{ RT("accounting:book"), 1, "no module \"accounting\"; add it to modules" },
	{ RT("dm:" X58), 1, "makes a channel of 61 bytes, at most 58 are allowed" },
	{ RT(X58 "0:x"), 1, "makes a channel of 61 bytes" },
	{ "routes = ( { tag = \"dm:x\"; source = \"AD_strands\"; handler = \"f\"; },\n"
	  "{ tag = \"dm:x\"; source = \"ad_strands\"; handler = \"g\"; } );", 2,
	  "the route of \"dm:x\" from \"ad_strands\" is listed twice (line 1)" },
	{ "modules = ( { name = \"a\"; table = \"t\"; }, { name = \"a_b\"; table = \"u\"; } );\n"
	  "routes = ( { tag = \"a:b_c\"; source = \"s\"; handler = \"f\"; },\n"
	  "{ tag = \"a_b:c\"; source = \"s\"; handler = \"f\"; } );", 3,
	  "tag \"a_b:c\" has the channel of \"a:b_c\" (line 2)" },
};

START_TEST(bad_file)
{
	const struct bad *b = &bad_files[_i];
	char start[PATH_MAX + 16];
	struct conf *c = (struct conf *)&c;
	struct conf *before = c;
	struct err e = { 0 };

	write_bytes(b->text, strlen(b->text));
	ck_assert_msg(conf_load(&c, path, &e) == STRAND_EINVAL, "accepted: %s", b->text);
	ck_assert_ptr_eq(c, before);
	ck_assert_int_eq(e.code, STRAND_EINVAL);
	snprintf(start, sizeof(start), "%s:%d: ", path, b->line);
	ck_assert_msg(strncmp(e.text, start, strlen(start)) == 0, "%s\ndoes not start with %s", e.text, start);
	ck_assert_msg(strstr(e.text, b->message), "%s\ndoes not hold: %s", e.text, b->message);
}
END_TEST

START_TEST(not_a_file)
{
	struct conf *c = NULL;
	struct err e = { 0 };

	ck_assert_int_eq(conf_load(&c, "no/such/file.conf", &e), STRAND_ENOENT);
	ck_assert_ptr_nonnull(strstr(e.text, "no/such/file.conf: no such file; name another with --config"));
	ck_assert_int_eq(conf_load(&c, ".", &e), STRAND_EINVAL);
	ck_assert_ptr_nonnull(strstr(e.text, "is a directory"));
	write_bytes("a\0b", 3);
	ck_assert_int_eq(conf_load(&c, path, &e), STRAND_EINVAL);
	ck_assert_ptr_nonnull(strstr(e.text, "NUL byte"));
	ck_assert_int_eq(conf_load(&c, path, NULL), STRAND_EINVAL);
	ck_assert_int_eq(conf_load(&c, "/dev/zero", &e), STRAND_EINVAL);
	ck_assert_ptr_nonnull(strstr(e.text, "larger than 1 MiB"));
	ck_assert_ptr_null(c);
}
END_TEST

/* Runs conf_load with standard error in a pipe; returns what was logged. */
static void load_logged(mode_t mode, char *out, size_t size)
{
	struct conf *c = load_text("module_communication: { database: { password = \"pss\"; }; };");
	int saved = dup(STDERR_FILENO), pipes[2];
	struct err e = { 0 };
	ssize_t n;

	conf_free(c);
	ck_assert_int_eq(chmod(path, mode), 0);
	ck_assert_int_eq(pipe(pipes), 0);
	dup2(pipes[1], STDERR_FILENO);
	close(pipes[1]);
	ck_assert_int_eq(conf_load(&c, path, &e), 0);
	dup2(saved, STDERR_FILENO);
	close(saved);
	n = read(pipes[0], out, size - 1);
	ck_assert_int_ge(n, 0);
	out[n] = '\0';
	close(pipes[0]);
	conf_free(c);
}

START_TEST(password_open_to_others)
{
	char out[1024];

	load_logged(0640, out, sizeof(out));
	ck_assert_ptr_nonnull(strstr(out, "warning main: "));
	ck_assert_ptr_nonnull(strstr(out, "chmod 600"));
	ck_assert_ptr_null(strstr(out, "pss"));
	load_logged(0600, out, sizeof(out));
	ck_assert_str_eq(out, "");
}
END_TEST

/* Every prefix of a good file is read or refused, never more. */
START_TEST(cut_files)
{
	const char *text = "workers: { threads = 4; batch = 0x10; };\n"
			   "log: { level = \"in\\\"fo\"; }; /* x */ stop_timeout = 20.5e-3L;\n"
			   "routes = ( { tag = \"dm:x\"; source = \"s\"; handler = \"f\"; } );\n";

	for (size_t len = 0; len <= strlen(text); len++) {
		struct conf *c = NULL;
		struct err e = { 0 };

		write_bytes(text, len);
		if (conf_load(&c, path, &e) == 0)
			conf_free(c);
		else
			ck_assert_str_ne(e.text, "");
	}
}
END_TEST

static void read_sample(struct buf *text)
{
	const char *srcdir = getenv("srcdir");
	char name[PATH_MAX], line[512];
	FILE *f;

	snprintf(name, sizeof(name), "%s/conf/strandd.conf", srcdir ? srcdir : ".");
	f = fopen(name, "r");
	ck_assert_msg(f != NULL, "cannot open %s", name);
	buf_init(text);
	while (fgets(line, sizeof(line), f))
		buf_adds(text, line);
	fclose(f);
}

/* The sample with every commented setting taken in: '#' and no blank. */
static void uncomment(const char *text, struct buf *out)
{
	buf_init(out);
	for (const char *p = text; *p;) {
		size_t len = strcspn(p, "\n") + 1;
		size_t blank = strspn(p, " ");

		if (p[blank] == '#' && (isalpha((unsigned char)p[blank + 1]) || p[blank + 1] == ')' ||
					strncmp(p + blank + 1, "  {", 3) == 0))
			buf_add(out, p + blank + 1, len - blank - 1);
		else
			buf_add(out, p, len);
		p += len;
	}
}

START_TEST(sample_is_the_default)
{
	struct buf sample;
	struct conf *given, *expected;

	read_sample(&sample);
	given = load_text(sample.data);
	ck_assert_int_eq(conf_default(&expected), 0);
	ck_assert_ptr_null(given->db_host);
	ck_assert_ptr_null(given->stats_socket);
	ck_assert_int_eq(given->queue_bytes, expected->queue_bytes);
	ck_assert_uint_eq(given->n_routes, 0);
	conf_free(given);
	conf_free(expected);
	buf_release(&sample);
}
END_TEST

static void assert_default(const struct option *o, const config_setting_t *s)
{
	char text[32];

	switch (config_setting_type(s)) {
	case CONFIG_TYPE_BOOL:
		ck_assert_str_eq(config_setting_get_bool(s) ? "true" : "false", o->fallback);
		break;
	case CONFIG_TYPE_STRING:
		ck_assert_str_eq(config_setting_get_string(s), o->fallback);
		break;
	default:
		snprintf(text, sizeof(text), "%lld", config_setting_get_int64(s));
		ck_assert_str_eq(text, o->fallback);
	}
}

/* Each option stands in the sample, with its help above it and its default. */
START_TEST(sample_agrees_with_the_table)
{
	struct buf sample, all;
	struct conf *c;
	config_t config;

	read_sample(&sample);
	uncomment(sample.data, &all);
	c = load_text(all.data);
	ck_assert_uint_eq(c->n_modules, 3);
	ck_assert_uint_eq(c->n_routes, 5);
	ck_assert_str_eq(c->stats_socket, "/run/strandd/stats.sock");
	config_init(&config);
	ck_assert(config_read_string(&config, all.data));
	for (size_t i = 0; i < conf_options.n; i++) {
		const struct option *o = &conf_options.options[i];
		const config_setting_t *s = config_lookup(&config, o->path);
		const char *leaf = strrchr(o->path, '.') ? strrchr(o->path, '.') + 1 : o->path;
		char lines[512];

		ck_assert_msg(s != NULL, "the sample lacks %s", o->path);
		if (o->fallback)
			assert_default(o, s);
		snprintf(lines, sizeof(lines), "# %s\n%*s#%s = ", o->help,
			 leaf == o->path ? 0 : (strncmp(o->path, "module_", 7) == 0 ? 4 : 2), "", leaf);
		ck_assert_msg(strstr(sample.data, lines), "the sample lacks:\n%s", lines);
	}
	config_destroy(&config);
	conf_free(c);
	buf_release(&all);
	buf_release(&sample);
}
END_TEST

/* options_default trusts the table. */
START_TEST(table_is_sound)
{
	for (size_t i = 0; i < conf_options.n; i++) {
		const struct option *o = &conf_options.options[i];
		int64_t number;
		char *end;

		ck_assert_int_le(o->min, o->max);
		ck_assert_int_eq(o->help[strlen(o->help) - 1], '.');
		if (!o->fallback || o->type != OPTION_INT)
			continue;
		number = strtoll(o->fallback, &end, 10);
		ck_assert_int_eq(*end, '\0');
		ck_assert_int_ge(number, o->min);
		ck_assert_int_le(number, o->max);
		ck_assert_int_le(o->max, INT_MAX);
	}
}
END_TEST

START_TEST(quoting)
{
	char out[QUOTE_SIZE], longest[1000];

	ck_assert_str_eq(quote(out, "a\"\\\n\x7f\xc3\xa9"), "\"a\\\"\\\\\\x0a\\x7f\xc3\xa9\"");
	memset(longest, '\n', sizeof(longest));
	longest[sizeof(longest) - 1] = '\0';
	quote(out, longest);
	ck_assert_uint_lt(strlen(out), QUOTE_SIZE);
	ck_assert_str_eq(out + strlen(out) - 4, "...\"");
}
END_TEST

int main(void)
{
	Suite *s = suite_create("conf");
	TCase *t = tcase_create("load");
	SRunner *sr;
	int failed;

	tcase_add_checked_fixture(t, make_path, remove_path);
	tcase_add_test(t, empty_file_gives_defaults);
	tcase_add_test(t, defaults_without_a_file);
	tcase_add_test(t, everything_given);
	tcase_add_test(t, port_may_be_text);
	tcase_add_loop_test(t, bad_file, 0, (int)(sizeof(bad_files) / sizeof(bad_files[0])));
	tcase_add_test(t, not_a_file);
	tcase_add_test(t, password_open_to_others);
	tcase_add_test(t, cut_files);
	tcase_add_test(t, sample_is_the_default);
	tcase_add_test(t, sample_agrees_with_the_table);
	suite_add_tcase(s, t);
	t = tcase_create("table");
	tcase_add_test(t, table_is_sound);
	tcase_add_test(t, quoting);
	suite_add_tcase(s, t);
	sr = srunner_create(s);
	srunner_run_all(sr, CK_ENV);
	failed = srunner_ntests_failed(sr);
	srunner_free(sr);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
