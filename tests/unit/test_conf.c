#include "conf/conf.h"

#include <check.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/buf.h"
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
	ck_assert_int_eq(chmod(path, 0600), 0);
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
		"  connect_timeout = \"100ms\"; lock_timeout = \"1ms\"; idle_timeout = \"10s\";\n"
		"  max_lifetime = \"7d\"; };\n"
		"  notifications: { enabled = false; channels = [ \"risk_check\", \"c\" ]; };\n"
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
	ck_assert_int_eq(c->db_idle_timeout_ms, 10000);
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
	/* libpq passes over blanks, and has a default for each */
	c = load_text("module_communication: { database: { port = \"5432, 65535 ,,1\"; }; };");
	ck_assert_str_eq(c->db_port, "5432, 65535 ,,1");
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
	{ "\nlog: { level = \"info; };\n\n", 2, "the string that begins here has no end" },
	{ "log: { };\n/* more\nqueue: { limit = 5; };", 2, "the comment that begins here has no end" },
	/* unknown names */
	{ "worker: { threads = 4; };", 1, "unknown setting \"worker\"; did you mean \"workers\"?" },
	{ "workers: {\n\n thraeds = 4; };", 3, "unknown setting \"workers.thraeds\"; did you mean \"workers.threads\"?" },
	{ "workers: { colour = 4; };", 1, "known here: threads, batch, max_batch_bytes" },
	{ "host = \"x\";", 1, "did you mean \"module_communication.database.host\"?" },
	{ "module_communication: { databse: { }; };", 1, "did you mean \"module_communication.database\"?" },
	{ "module_communication: { modules = (); };", 1, "unknown setting \"module_communication.modules\"" },
	{ "module_communication: { notifications: { reconnect_interval = 1; }; };", 1,
	  "unknown setting \"module_communication.notifications.reconnect_interval\"; known here: enabled, channels" },
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
	{ "module_communication: { database: { port = \"x\"; }; };", 1, "port must be a whole number, not \"x\"" },
	{ "module_communication: { database: { port = \"5432,99999\"; }; };", 1, "port = 99999 is out of bounds: 1 to 65535" },
	{ "module_communication: { database: { port = \"5432,5433a\"; }; };", 1, "not \"5433a\"" },
	{ "module_communication: { database: { port = \"0,5432\"; }; };", 1, "port = 0 is out of bounds" },
	{ "module_communication: { database: { port = \"5432;5433\"; }; };", 1, "not \"5432;5433\"" },
	{ "module_communication: { database: { port = \"\"; }; };", 1, "port must not be empty" },
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
	{ "queue: { limit = 1e6; };", 1, "the number 1e6 must be written in full" },
	{ "queue: { limit = [ 1 ]; };", 1, "queue.limit must be a whole number, not an array in [ ]" },
	{ "queue: { limit = ( 1, 2 ); };", 1, "not a list in ( )" },
	{ "queue: { bytes = 8388608; };", 1, "queue.bytes = 8388608 lacks its unit: write \"8388608B\" or \"8388608MiB\"" },
	{ "queue: { bytes = \"8 mb\"; };", 1, "not \"8 mb\" (units: B, KiB" },
	{ "queue: { bytes = \"9223372036854775807KiB\"; };", 1, "out of bounds: 1KiB to 1TiB" },
	{ "queue: { bytes = 1.5; };", 1, "must be a number and its unit such as \"8MiB\", not a number with a fraction" },
	{ "scan: { interval = \"99999999999999999999d\"; };", 1, "out of bounds: 10ms to 1d" },
	{ "scan: { interval = \"none\"; };", 1, "must be a number and its unit" },
	{ "scan: { interval = [ \"5s\" ]; };", 1, "not an array in [ ]" },
	{ "log: { format = \"xml\"; };", 1, "one of \"auto\", \"text\", \"journal\", \"json\", not \"xml\"" },
	{ "module_communication: { notifications: { channels = \"a\"; }; };", 1, "must be an array of strings in [ ], not a string" },
	{ "module_communication: { notifications: { channels = [ 1 ]; }; };", 1, "must hold strings only, not a whole number" },
	{ "module_communication: { notifications: { channels = [ ]; }; };", 1, "must not be empty" },
	{ "module_communication: { notifications: { channels = [ \"\" ]; }; };", 1, "must not be empty" },
	{ "module_communication: { cleanup: { enabled = \"true\"; }; };", 1, "enabled must be true or false, not a string" },
	{ "module_communication: { cleanup: { retention_days = 0; }; };", 1, "out of bounds: 1 to 36500 days" },
	{ "workers: { threads = 2;\n reserved_for_high = 2; };", 2, "leaves none for normal strands; at most 1" },
	{ "module_communication: { database: { password = \"p\";\n password_file = \"/x\"; }; };", 2, "exclude each other" },
	{ "module_communication: { database: { password_file = \"x\"; }; };", 1, "password_file must be an absolute path, not \"x\"" },
	{ "module_communication: { database: { password_file = \"/no/such\"; }; };", 1, "password_file \"/no/such\": no such file" },
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
	{ "modules = ( { name = \"a\"; table = \"t\"; },\n{ name = \"a\"; table = \"u\"; } );", 2, "module \"a\" is listed twice (test_conf." },
	{ "modules = ( { name = \"a\"; table = \"AD_strands\"; },\n{ name = \"b\"; table = \"ad_strands\"; } );", 2, "modules \"a\" (test_conf." },
	/* routes */
	{ "routes = { };", 1, "routes must be a list" },
	{ "routes = ( ( ) );", 1, "a route must be a group in { }, not a list in ( )" },
	{ R("source = \"a\"; handler = \"f\";"), 1, "this route lacks \"tag\"" },
	{ R("tag = \"dm:x\"; handler = \"f\";"), 1, "this route lacks \"source\"" },
	{ "\n" R("tag = \"dm:x\"; source = \"a\";"), 2, "neither handler, an SQL function, nor command" },
	{ R("tag = \"dm:x\"; source = \"a\"; handler = \"f\"; command = [ \"c\" ];"), 1, "handler \"f\" and command exclude each other" },
	{ R("tag = \"dm:x\"; source = \"a\"; command = [ ];"), 1, "command" },
	{ R("tag = \"dm:x\"; source = \"a\"; command = \"c\";"), 1, "command must be an array of strings" },
	{ R("tag = \"dm:x\"; source = \"a\"; handler = \"f\"; delivery = \"at-most-once\";"), 1, "is for a command" },
	{ R("tag = \"dm:x\"; source = \"a\"; command = [ \"c\" ]; delivery = \"once\";"), 1, "at-most-once" },
	{ R("tag = \"dm:x\"; source = \"a\"; command = [ \"c\" ]; serial = true;"), 1, "serial is for a handler in SQL" },
	{ R("tag = \"dm:x\"; source = \"a\"; command = [ \"c\" ]; processes = 65;"), 1, "processes = 65 is out of bounds: 1 to 64" },
	{ R("tag = \"dm:x\"; source = \"a\"; command = [ \"c\" ]; processes = 61;"), 1, "are more than 64" },
	{ R("tag = \"dm:x\"; source = \"a\"; command = [ \"c\" ]; process: { environment = [ \"X\" ]; };"), 1, "\"X\" is not of the form NAME=value" },
	{ R("tag = \"dm:x\"; source = \"a\"; command = [ \"c\" ]; process: { max_line = 5; };"), 1, "process.max_line = 5" },
	{ R("tag = \"dm:x\"; source = \"a\"; handler = \"f\"; serail = true;"), 1, "did you mean \"serial\"?" },
	{ R("tag = \"dm:x\"; source = \"a\"; handler = \"f\"; serial = 1;"), 1, "serial must be true or false" },
	{ R("tag = 5; source = \"a\"; handler = \"f\";"), 1, "tag must be a string" },
	{ R("tag = \"dm:x\"; source = \"a\"; handler = \"f\"; attempts = 0;"), 1, "attempts = 0 is out of bounds: 1 to 1000" },
	{ R("tag = \"dm:x\"; source = \"a\"; handler = \"f\"; timeout = 5;"), 1, "timeout = 5 lacks its unit" },
	{ R("tag = \"dm:x\"; source = \"a\"; handler = \"f\"; timeout = \"0s\";"), 1, "out of bounds: 1ms to 365d, or none" },
	{ R("tag = \"dm:x\"; source = \"a\"; handler = \"f\"; backoff = 5;"), 1, "backoff must be a group in { }" },
	{ R("tag = \"dm:x\"; source = \"a\"; handler = \"f\"; backoff: { inital = \"1s\"; };"), 1, "did you mean \"backoff.initial\"?" },
	{ R("tag = \"dm:x\"; source = \"a\"; handler = \"f\"; backoff: { factor = 0.5; };"), 1, "backoff.factor = 0.5 is out of bounds: 1 to 10" },
	{ R("tag = \"dm:x\"; source = \"a\"; handler = \"f\"; backoff: { factor = \"2\"; };"), 1, "backoff.factor must be a number such as 2.0, not a string" },
	{ R("tag = \"dm:x\"; source = \"a\"; handler = \"f\"; backoff: { factor = 1.0e300; };"), 1, "backoff.factor" },
	{ R("tag = \"dm:x\"; source = \"a\"; handler = \"f\"; backoff: { initial = \"1h\"; };"), 1, "backoff.cap is shorter than backoff.initial" },
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
	  "the route of \"dm:x\" from \"ad_strands\" is listed twice (test_conf." },
	{ "modules = ( { name = \"a\"; table = \"t\"; }, { name = \"a_b\"; table = \"u\"; } );\n"
	  "routes = ( { tag = \"a:b_c\"; source = \"s\"; handler = \"f\"; },\n"
	  "{ tag = \"a_b:c\"; source = \"s\"; handler = \"f\"; } );", 3,
	  "tag \"a_b:c\" has the channel of \"a:b_c\" (test_conf." },
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
	ck_assert_ptr_nonnull(strstr(e.text, "larger than 1048576 bytes"));
	ck_assert_ptr_null(c);
}
END_TEST

/* As PostgreSQL judges its key files: root's may be read by a group. */
START_TEST(password_open_to_others)
{
	struct conf *c = load_text("module_communication: { database: {\n password = \"pss\"; }; };");
	struct err e = { 0 };

	conf_free(c);
	ck_assert_int_eq(chmod(path, 0604), 0);
	c = NULL;
	ck_assert_int_eq(conf_load(&c, path, &e), STRAND_EINVAL);
	ck_assert_msg(strstr(e.text, ":2: a password stands here and others can read this file; say: chmod 06"), "%s", e.text);
	ck_assert_ptr_null(strstr(e.text, "pss"));
	ck_assert_int_eq(chmod(path, 0640), 0);
	ck_assert_int_eq(conf_load(&c, path, &e), getuid() == 0 ? 0 : STRAND_EINVAL);
	conf_free(c);
	ck_assert_int_eq(chmod(path, 0600), 0);
	ck_assert_int_eq(conf_load(&c, path, &e), 0);
	ck_assert_str_eq(c->db_password, "pss");
	conf_free(c);
}
END_TEST

/* A password that a slip makes no string is in the log for ever. */
static const char *const slips[] = {
	"\npassword = hunter2Secret;",
	"\npassword = 'hunter2Secret';",
	"\npassword = \"hunter2Secret\" user \"y\";",
	"\npassword = \"a\"hunter2Secret\";",
	"\nPassword = hunter2Secret;",
	"database: {\n password = hunter2Secret; };",
	"module_communication: { database: { password = hunter2Secret; }; };",
	"\npassword =\n\n hunter2Secret;",
	"\npassword = \"x\n hunter2Secret\" y \"z\";",
	"\n\tpassword = 22222222222;",
	"\npassword = 0x2222222222;",
	"\npassword = 2e22;",
	"\npassword = 22222222222222222222222L;",
	"\npassword =\n 22222222222;",
	"user = \"x;\npassword = \"hunter2Secret\";",
};

START_TEST(passwords_are_not_quoted)
{
	const char *text = slips[_i];
	struct conf_request request = { .file = path };
	struct reports reports = REPORTS_INIT;
	struct conf *c = NULL;

	write_bytes(text, strlen(text));
	ck_assert_int_eq(conf_read(&c, &request, &reports), STRAND_EINVAL);
	ck_assert_uint_ge(reports.n, 1);
	for (size_t i = 0; i < reports.n; i++) {
		const char *said = strstr(reports.list[i].text, ": ");

		ck_assert_msg(!strstr(said, "Secret") && !strstr(said, "222") && !strstr(said, "2e22"), "%s", said);
	}
	reports_release(&reports);
}
END_TEST

/* A text that does not parse holds its password none the less. */
START_TEST(password_open_to_others_in_a_broken_file)
{
	static const struct {
		const char *text;
		int line;	/* 0: no password stands there */
	} broken[] = {
		{ "workers: {\n threads = = 4; };\npassword = \"pss\";", 3 },
		{ "workers = = 4;\ndatabase: { user = \"u\"; password: \"pss\"; };", 2 },
		{ "user = \"x;\npassword = \"pss\";", 2 },
		{ "workers = = 4;\n# password = \"pss\"\n // password = 1\n", 0 },
		{ "workers = = 4;\npassword_file = \"/x\";", 0 },
	};

	for (size_t i = 0; i < sizeof(broken) / sizeof(broken[0]); i++) {
		struct conf_request request = { .file = path };
		struct reports reports = REPORTS_INIT;
		char wanted[PATH_MAX + 80];
		bool told = false;
		struct conf *c = NULL;

		write_bytes(broken[i].text, strlen(broken[i].text));
		ck_assert_int_eq(chmod(path, 0604), 0);
		ck_assert_int_eq(conf_read(&c, &request, &reports), STRAND_EINVAL);
		snprintf(wanted, sizeof(wanted), "%s:%d: a password stands here", path, broken[i].line);
		for (size_t j = 0; j < reports.n; j++)
			told |= strstr(reports.list[j].text, broken[i].line ? wanted : "a password stands") != NULL;
		ck_assert_msg(told == (broken[i].line > 0), "%s", broken[i].text);
		reports_release(&reports);
	}
}
END_TEST

/* Whoever mends a file wants to do it once. */
START_TEST(every_error_is_told)
{
	static const char *const expected[] = {
		":1: unknown setting \"wrokers\"; did you mean \"workers\"?",
		":2: the number 99999999999 does not fit in 32 bits; write 99999999999L",
		":2: scan.page must be a whole number, not a string",
		":3: unknown setting \"queue2\"; did you mean \"queue\"?",
		":4: tag \"dm\" is not of the form <module>:<action>",
		":5: this route lacks \"source\"",
		":6: serial must be true or false, not a whole number",
	};
	const char *text = "wrokers: { threads = 4; };\n"
			   "queue: { limit = 99999999999; }; scan: { page = \"a\"; };\n"
			   "queue2 = 1; stop_timeout = \"1s\"; stats: { }; \n"
			   "routes = ( { tag = \"dm\"; source = \"s\"; handler = \"f\"; },\n"
			   "{ tag = \"dm:x\"; handler = \"f\"; },\n"
			   "{ tag = \"dm:y\"; source = \"s\"; handler = \"f\"; serial = 1; } );\n";
	struct conf_request request = { .file = path };
	struct reports reports = REPORTS_INIT;
	struct conf *c = NULL;

	write_bytes(text, strlen(text));
	ck_assert_int_eq(conf_read(&c, &request, &reports), STRAND_EINVAL);
	ck_assert_ptr_null(c);
	ck_assert_uint_eq(reports.n_errors, reports.n);
	ck_assert_uint_eq(reports.n, sizeof(expected) / sizeof(expected[0]));
	/* in the order of the lines */
	for (size_t i = 0; i < reports.n; i++) {
		const char *said = reports.list[i].text;

		ck_assert_ptr_eq(strstr(said, path), said);
		ck_assert_str_eq(said + strlen(path), expected[i]);
	}
	reports_release(&reports);
}
END_TEST

/* A number that libconfig would bend hides no other fault, wherever it stands. */
START_TEST(bent_numbers_hide_nothing)
{
	static const char *const expected[] = {
		":1: the number 99999999999 does not fit", ":1: module_communication.cleanup.enabled must be true or false",
		":1: module_communication.cleanup.cleanup_interval_hours = 0 is out of bounds",
		":1: module_communication.cleanup.batch must be a whole number",
		":2: the number 5000000000 does not fit", ":2: workers.batch must be a whole number",
		":4: the number 99999999999999999999 is too large", ":3: scan.page = 0 is out of bounds",
		":5: the number 1.0e999 is too large", ":5: the number 1e9 must be written in full",
		":5: attempts = 0 is out of bounds", ":5: serial must be true or false, not a whole number",
		":6: queue.limit must be a whole number, not an array", ":6: the number 0x100000000 does not fit",
	};
	const char *text = "module_communication: { cleanup: { retention_days = 99999999999; enabled = 1;"
			   " cleanup_interval_hours = 0; batch = 1.5; }; };\n"
			   "workers: { threads = 5000000000; batch = 1.5; };\n"
			   "scan: { page = 0; interval =\n 99999999999999999999L; };\n"
			   "routes = ( { tag = \"dm:x\"; source = \"s\"; handler = \"f\"; attempts = 0; serial = 1;"
			   " backoff: { factor = 1.0e999; }; max_workers = 1e9; } );\n"
			   "queue: { limit = [ 1, 0x100000000 ]; };\n";
	struct conf_request request = { .file = path };
	struct reports reports = REPORTS_INIT;
	struct conf *c = NULL;

	write_bytes(text, strlen(text));
	ck_assert_int_eq(conf_read(&c, &request, &reports), STRAND_EINVAL);
	for (size_t i = 0; i < sizeof(expected) / sizeof(expected[0]); i++) {
		bool told = false;

		for (size_t j = 0; j < reports.n; j++)
			told |= strstr(reports.list[j].text, expected[i]) != NULL;
		ck_assert_msg(told, "lacks %s", expected[i]);
	}
	ck_assert_uint_eq(reports.n, sizeof(expected) / sizeof(expected[0]));
	reports_release(&reports);
}
END_TEST

/* A list of errors without end helps nobody, and takes no memory. */
START_TEST(thousand_errors)
{
	struct conf_request request = { .file = path };
	struct reports reports = REPORTS_INIT;
	struct conf *c = NULL;
	struct buf text;

	buf_init(&text);
	for (int i = 0; i < 1000; i++)
		buf_addf(&text, "setting%d = 1;\n", i);
	write_bytes(text.data, text.len);
	buf_release(&text);
	ck_assert_int_eq(conf_read(&c, &request, &reports), STRAND_EINVAL);
	ck_assert_uint_eq(reports.n, REPORTS_MAX);
	ck_assert_uint_eq(reports.n_errors, 1000);
	reports_release(&reports);
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

/* values_default trusts the table. */
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
	tcase_add_loop_test(t, passwords_are_not_quoted, 0, (int)(sizeof(slips) / sizeof(slips[0])));
	tcase_add_test(t, password_open_to_others_in_a_broken_file);
	tcase_add_test(t, every_error_is_told);
	tcase_add_test(t, bent_numbers_hide_nothing);
	tcase_add_test(t, thousand_errors);
	tcase_add_test(t, cut_files);
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
