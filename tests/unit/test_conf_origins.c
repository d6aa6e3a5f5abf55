/* Where settings come from: conf.d, the environment, --set, files of passwords. */
#include "conf/conf.h"

#include <check.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "conf/option.h"
#include "conf/report.h"

static char dir[PATH_MAX / 2];

static void make_dir(void)
{
	char sub[PATH_MAX];

	snprintf(dir, sizeof(dir), "%s/test_conf_origins.XXXXXX", getenv("TMPDIR") ? getenv("TMPDIR") : "/tmp");
	ck_assert_ptr_nonnull(mkdtemp(dir));
	snprintf(sub, sizeof(sub), "%s/conf.d", dir);
	ck_assert_int_eq(mkdir(sub, 0700), 0);
}

static void remove_dir(void)
{
	char command[PATH_MAX];

	snprintf(command, sizeof(command), "rm -rf '%s'", dir);
	ck_assert_int_eq(system(command), 0);
}

static const char *in_dir(const char *name)
{
	static char path[PATH_MAX];

	snprintf(path, sizeof(path), "%s/%s", dir, name);
	return path;
}

static void put(const char *name, mode_t mode, const char *text)
{
	FILE *f = fopen(in_dir(name), "w");

	ck_assert_ptr_nonnull(f);
	fputs(text, f);
	ck_assert_int_eq(fclose(f), 0);
	ck_assert_int_eq(chmod(in_dir(name), mode), 0);
}

static struct conf *conf;
static struct reports reports;

/* Reads dir/strandd.conf; the environment and sets may be NULL. */
static int read_all(const char *const *environment, const char *const *sets)
{
	char file[PATH_MAX];
	struct conf_request request = { .file = file, .environment = environment, .sets = sets };

	snprintf(file, sizeof(file), "%s/strandd.conf", dir);
	conf_free(conf);
	conf = NULL;
	reports_release(&reports);
	return conf_read(&conf, &request, &reports);
}

static void read_good(const char *const *environment, const char *const *sets)
{
	int ret = read_all(environment, sets);

	ck_assert_msg(ret == 0, "%s", reports.n ? reports.list[0].text : "");
}

static bool told(const char *text)
{
	for (size_t i = 0; i < reports.n; i++) {
		if (strstr(reports.list[i].text, text))
			return true;
	}
	return false;
}

static void finish(void)
{
	conf_free(conf);
	conf = NULL;
	reports_release(&reports);
	remove_dir();
}

static const struct place *place_of(const char *path)
{
	for (size_t i = 0; i < conf_options.n; i++) {
		if (!strcmp(conf_options.options[i].path, path))
			return &conf->places[i];
	}
	ck_abort_msg("no option %s", path);
}

START_TEST(each_over_those_before)
{
	const char *environment[] = { "HOME=/x", "STRANDD_WORKERS_BATCH=13", "STRANDD_SCAN_PAGE=13", NULL };
	const char *sets[] = { "scan.page=14", NULL };

	put("strandd.conf", 0644, "workers: { threads = 10; batch = 10; };\nscan: { page = 10; };\nqueue: { limit = 10; };\n");
	put("conf.d/B.conf", 0644, "workers: { threads = 11; batch = 11; }; scan: { page = 11; };");
	put("conf.d/a.conf", 0644, "\nworkers: { threads = 12; batch = 12; }; scan: { page = 12; };");
	put("conf.d/.z.conf", 0644, "broken");
	put("conf.d/z.conf.bak", 0644, "broken");
	read_good(environment, sets);
	ck_assert_int_eq(conf->queue_limit, 10);
	/* as the C locale sorts: capitals first */
	ck_assert_int_eq(conf->workers_threads, 12);
	ck_assert_int_eq(conf->workers_batch, 13);
	ck_assert_int_eq(conf->scan_page, 14);
	ck_assert_int_eq(place_of("workers.threads")->line, 2);
	ck_assert_ptr_nonnull(strstr(place_of("workers.threads")->where, "conf.d/a.conf"));
	ck_assert_str_eq(place_of("workers.batch")->where, "environment variable STRANDD_WORKERS_BATCH");
	ck_assert_str_eq(place_of("scan.page")->where, "--set");
	ck_assert_ptr_null(place_of("log.level")->where);
}
END_TEST

START_TEST(lists_are_joined)
{
	put("strandd.conf", 0644, "routes = ( { tag = \"dm:x\"; source = \"s\"; handler = \"f\"; } );");
	put("conf.d/risk.conf", 0644, "modules = ( { name = \"risk\"; table = \"RK_strands\"; } );\n"
	    "routes = ( { tag = \"risk:y\"; source = \"s\"; handler = \"f\"; } );");
	put("conf.d/zoo.conf", 0644, "modules = ( { name = \"zoo\"; table = \"zoo\"; }, { name = \"dm\"; table = \"own_dm\"; } );\n"
	    "\nroutes = ( { tag = \"zoo:z\"; source = \"s\"; handler = \"f\"; } );");
	read_good(NULL, NULL);
	/* the specification's three, with dm at another table, and two more */
	ck_assert_uint_eq(conf->n_modules, 5);
	ck_assert_str_eq(conf_receiver(conf, "dm:x")->table, "own_dm");
	ck_assert_uint_eq(conf->n_routes, 3);
	ck_assert_str_eq(conf->routes[2].tag, "zoo:z");
	ck_assert_int_eq(conf->routes[2].line, 3);
	ck_assert_ptr_nonnull(strstr(conf->routes[2].file, "/conf.d/zoo.conf"));
}
END_TEST

START_TEST(a_list_in_the_first_file_replaces_the_three)
{
	put("strandd.conf", 0644, "modules = ( { name = \"a\"; table = \"a\"; } );");
	put("conf.d/b.conf", 0644, "modules = ( { name = \"b\"; table = \"b\"; } );");
	read_good(NULL, NULL);
	ck_assert_uint_eq(conf->n_modules, 2);
	ck_assert_ptr_null(conf_receiver(conf, "dm:x"));
}
END_TEST

START_TEST(what_stands_twice_names_both_places)
{
	put("strandd.conf", 0644, "modules = ( { name = \"a\"; table = \"a\"; } );\n"
	    "routes = ( { tag = \"a:x\"; source = \"s\"; handler = \"f\"; } );");
	put("conf.d/b.conf", 0644, "\nmodules = ( { name = \"a\"; table = \"b\"; } );\n\n"
	    "routes = ( { tag = \"a:x\"; source = \"S\"; handler = \"g\"; } );");
	ck_assert_int_eq(read_all(NULL, NULL), STRAND_EINVAL);
	ck_assert_ptr_null(conf);
	ck_assert(told("conf.d/b.conf:2: module \"a\" is listed twice ("));
	ck_assert(told("strandd.conf:1)"));
	ck_assert(told("conf.d/b.conf:4: the route of \"a:x\" from \"S\" is listed twice ("));
	ck_assert(told("strandd.conf:2)"));
}
END_TEST

START_TEST(errors_of_all_files_are_told)
{
	const char *environment[] = { "STRANDD_SCAN_INTERVAL=5", NULL };
	const char *sets[] = { "queue.limit=many", "queue.limt=5", "workers=3", "workers.threads", "routes=x", NULL };

	put("strandd.conf", 0644, "workers: { threads = 0; };");
	put("conf.d/a.conf", 0644, "}");
	put("conf.d/b.conf", 0644, "\nscan: { pgae = 1; };");
	ck_assert_int_eq(symlink("nowhere", in_dir("conf.d/c.conf")), 0);
	ck_assert_int_eq(read_all(environment, sets), STRAND_EINVAL);
	ck_assert(told("strandd.conf:1: workers.threads = 0 is out of bounds"));
	ck_assert(told("conf.d/a.conf:1: syntax error"));
	ck_assert(told("conf.d/b.conf:2: unknown setting \"scan.pgae\"; did you mean \"scan.page\"?"));
	ck_assert(told("conf.d/c.conf: no such file"));
	ck_assert(told("environment variable STRANDD_SCAN_INTERVAL: scan.interval = 5 lacks its unit: write \"5ms\" or \"5s\""));
	ck_assert(told("--set: queue.limit must be a whole number, not \"many\""));
	ck_assert(told("--set: unknown setting \"queue.limt\"; did you mean \"queue.limit\"?"));
	ck_assert(told("--set: \"workers\" is a group; known here: threads, batch"));
	ck_assert(told("--set: \"workers.threads\" is not of the form path=value"));
	ck_assert(told("--set: \"routes\": modules and routes stand in files only"));
	ck_assert_uint_eq(reports.n, 10);
}
END_TEST

START_TEST(values_as_text)
{
	const char *sets[] = { "module_communication.database.host=/run/x y", "module_communication.database.port=5433",
			       "module_communication.notifications.enabled=FALSE",
			       "module_communication.notifications.channels=dm_a, dm_b",
			       "queue.bytes=1.5MiB", "log.level=debug", "stop_timeout=2m", "log.format=json", NULL };

	put("strandd.conf", 0644, "routes = ( { tag = \"dm:a\"; source = \"s\"; handler = \"f\"; },\n"
	    "{ tag = \"dm:b\"; source = \"s\"; handler = \"f\"; } );");
	read_good(NULL, sets);
	ck_assert_str_eq(conf->db_host, "/run/x y");
	ck_assert_str_eq(conf->db_port, "5433");
	ck_assert(!conf->notifications_enabled);
	ck_assert_uint_eq(conf->n_channels, 2);
	ck_assert_str_eq(conf->channels[1], "dm_b");
	ck_assert_int_eq(conf->queue_bytes, 3 << 19);
	ck_assert_int_eq(conf->log_level, LOG_LEVEL_DEBUG);
	ck_assert_int_eq(conf->log_format, LOG_FORMAT_JSON);
	ck_assert_int_eq(conf->stop_timeout_ms, 120000);
}
END_TEST

static const struct {
	const char *set, *fault;
} bad_sets[] = {
	{ "queue.limit=4294967297", "out of bounds" },
	{ "queue.limit=99999999999999999999", "queue.limit = 99999999999999999999 is out of bounds" },
	{ "queue.limit=-99999999999999999999", "out of bounds" },
	{ "queue.limit=0x10", "must be a whole number, not \"0x10\"" },
	{ "queue.limit=1e3", "must be a whole number" },
	{ "queue.limit=5.0", "must be a whole number" },
	{ "queue.limit= 5", "must be a whole number" },
	{ "queue.limit=", "must be a whole number, not \"\"" },
	{ "queue.bytes=18446744073709551616B", "out of bounds" },
	{ "scan.interval=1e999s", "must be a number and its unit" },
	{ "scan.interval=9223372036854775807d", "out of bounds" },
	{ "module_communication.database.host=", "must not be empty" },
	{ "module_communication.database.port=0", "out of bounds: 1 to 65535" },
	{ "module_communication.database.port=x", "must be a whole number, not \"x\"" },
	{ "module_communication.database.port=5432,99999", "port = 99999 is out of bounds: 1 to 65535" },
	{ "module_communication.database.port=99999999999999999999", "out of bounds" },
	{ "module_communication.database.database=postgresql://u:pw@h/d", "must be a name alone" },
	{ "module_communication.notifications.enabled=yes", "must be true or false, not \"yes\"" },
	{ "module_communication.notifications.channels=a,,b", "must not be empty" },
	{ "module_communication.notifications.channels=", "must not be empty" },
	{ "log.level=loud", "one of \"error\", \"warning\", \"info\", \"debug\", not \"loud\"" },
	{ "=5", "unknown setting \"\"" },
	{ ".=5", "unknown setting \".\"" },
};

START_TEST(bad_set)
{
	const char *sets[] = { bad_sets[_i].set, NULL };

	put("strandd.conf", 0644, "");
	ck_assert_msg(read_all(NULL, sets) == STRAND_EINVAL, "accepted: %s", sets[0]);
	ck_assert_msg(told(bad_sets[_i].fault), "%s: %s", sets[0], reports.list[0].text);
	ck_assert(!told("pw@"));
	ck_assert_uint_eq(reports.n, 1);
}
END_TEST

START_TEST(a_password_is_no_argument)
{
	const char *sets[] = { "module_communication.database.password=pss", "module_communication.database.pasword=pss",
			       "module_communication.database.password:pss", NULL };

	put("strandd.conf", 0644, "");
	ck_assert_int_eq(read_all(NULL, sets), STRAND_EINVAL);
	ck_assert(told("--set: module_communication.database.password is refused, because everybody can see arguments"));
	ck_assert(told("did you mean \"module_communication.database.password\"?"));
	ck_assert(told("--set: one is not of the form path=value"));
	ck_assert(!told("pss"));
}
END_TEST

START_TEST(ports_of_the_environment)
{
	const char *bad[] = { "STRANDD_MODULE_COMMUNICATION_DATABASE_PORT=5432,x", NULL };
	const char *good[] = { "STRANDD_MODULE_COMMUNICATION_DATABASE_PORT=5432,5433", NULL };

	put("strandd.conf", 0644, "");
	ck_assert_int_eq(read_all(bad, NULL), STRAND_EINVAL);
	ck_assert(told("environment variable STRANDD_MODULE_COMMUNICATION_DATABASE_PORT:"
		       " module_communication.database.port must be a whole number, not \"x\""));
	read_good(good, NULL);
}
END_TEST

START_TEST(variables_that_are_near)
{
	const char *environment[] = { "STRANDD_WORKER_THREADS=5", "STRANDD_THREADS=5", "STRANDD_DATABASE_HOST=x",
				"STRANDD_BUILD=/x", "STRANDD_BUILD_ROOT=/x", "STRANDD_WRAPPER=x", "STRANDD_FAILPOINTS=x",
				"STRANDD_SOMETHING_ELSE_ALTOGETHER=5",
				"STRANDD_MODULE_COMMUNICATION_NOTIFICATIONS_RECONNECT_INTERVAL=5", "STRANDD_", "STRANDD_=", "=", "", NULL };

	put("strandd.conf", 0644, "");
	read_good(environment, NULL);
	ck_assert(told("environment: warning: STRANDD_WORKER_THREADS is no setting and counts for nothing;"
		       " did you mean STRANDD_WORKERS_THREADS?"));
	ck_assert(told("did you mean STRANDD_MODULE_COMMUNICATION_DATABASE_HOST?"));
	ck_assert_uint_eq(reports.n, 3);
	ck_assert_uint_eq(reports.n_errors, 0);
}
END_TEST

/* The specification's own shape, its four channels, and some routes. */
START_TEST(as_the_specification_has_it)
{
	const char *text =
		"module_communication: {\n"
		"  database: { host: \"localhost\"; port: 5432; database: \"trading_intelligence\";\n"
		"    user: \"trading_user\"; password: \"secure_password\"; };\n"
		"  notifications: { enabled: true;\n"
		"    channels: [ \"dm_evaluate_plan\", \"alpha_decision_feedback\", \"trader_execute_plan\",\n"
		"      \"alpha_execution_feedback\" ]; };\n"
		"  cleanup: { enabled: true; retention_days: 7; cleanup_interval_hours: 24; };\n"
		"};\n"
		"routes: ( { tag: \"dm:evaluate_plan\"; source: \"AD_strands\"; handler: \"f\"; },\n"
		"  { tag: \"dm:execution_feedback\"; source: \"TR_strands\"; handler: \"f\"; } );\n";

	put("strandd.conf", 0600, text);
	read_good(NULL, NULL);
	ck_assert_str_eq(conf->db_password, "secure_password");
	ck_assert(conf->cleanup_enabled);
	ck_assert_uint_eq(conf->n_routes, 1);
	ck_assert_str_eq(conf->routes[0].tag, "dm:evaluate_plan");
	ck_assert_uint_eq(conf->n_left_out, 1);
	ck_assert_str_eq(conf->left_out[0].tag, "dm:execution_feedback");
	ck_assert_uint_eq(reports.n, 3);
	ck_assert(told("strandd.conf:5: warning: notifications.channels: no route has the channel \"trader_execute_plan\""));
	ck_assert(told("no route has the channel \"alpha_execution_feedback\"; did you mean \"dm_execution_feedback\"?"));
}
END_TEST

START_TEST(channels_of_no_route)
{
	put("strandd.conf", 0644, "module_communication: { notifications: {\n channels = [ \"dm:a\" ]; }; };\n"
	    "routes = ( { tag = \"dm:a\"; source = \"s\"; handler = \"f\"; } );");
	ck_assert_int_eq(read_all(NULL, NULL), STRAND_EINVAL);
	ck_assert(told(":2: warning: notifications.channels: no route has the channel \"dm:a\"; did you mean \"dm_a\"?"));
	ck_assert(told(":2: notifications.channels names the channel of no route"));
}
END_TEST

static void put_password_file(const char *name, mode_t mode, const char *text)
{
	char line[PATH_MAX + 100];

	put(name, mode, text);
	snprintf(line, sizeof(line), "module_communication: { database: {\n password_file = \"%s\"; }; };", in_dir(name));
	put("strandd.conf", 0644, line);
}

START_TEST(password_from_a_file)
{
	put_password_file("secret", 0600, "pss wrd\r\n\n");
	read_good(NULL, NULL);
	ck_assert_str_eq(conf->db_password, "pss wrd");
	ck_assert_ptr_null(place_of("module_communication.database.password")->where);
}
END_TEST

static const struct {
	mode_t mode;
	const char *text, *fault;
} bad_passwords[] = {
	{ 0604, "pss\n", "others can read it; say: chmod 06" },
	{ 0666, "pss\n", "others can read it" },
	{ 0600, "\n", "is empty" },
	{ 0600, "", "is empty" },
	{ 0600, "pss\nhost=x\n", "must hold the password alone, on one line" },
};

START_TEST(bad_password_file)
{
	put_password_file("secret", bad_passwords[_i].mode, bad_passwords[_i].text);
	ck_assert_int_eq(read_all(NULL, NULL), STRAND_EINVAL);
	ck_assert_msg(told(bad_passwords[_i].fault), "%s", reports.list[0].text);
	ck_assert(told("strandd.conf:2: password_file \""));
	ck_assert(!told("pss"));
}
END_TEST

START_TEST(password_from_a_credential)
{
	put("strandd.conf", 0644, "module_communication: { database: {\n"
	    " password_file = \"${CREDENTIALS_DIRECTORY}/db\"; }; };");
	unsetenv("CREDENTIALS_DIRECTORY");
	ck_assert_int_eq(read_all(NULL, NULL), STRAND_EINVAL);
	ck_assert(told("CREDENTIALS_DIRECTORY is not set; does the unit have LoadCredential=?"));
	put("db", 0400, "pss");
	setenv("CREDENTIALS_DIRECTORY", dir, 1);
	read_good(NULL, NULL);
	ck_assert_str_eq(conf->db_password, "pss");
}
END_TEST

/* The files may change, what was on the command line counts on. */
START_TEST(read_again)
{
	const char *sets[] = { "workers.batch=7", NULL };
	struct conf *again = NULL;
	size_t at = 0;

	put("strandd.conf", 0644, "workers: { threads = 2; batch = 2; }; stats: { socket = \"a\"; };");
	read_good(NULL, sets);
	put("strandd.conf", 0644, "workers: { threads = 3; batch = 3; }; stats: { socket = \"b\"; };");
	ck_assert_int_eq(conf_reread(&again, conf, &reports), 0);
	ck_assert_int_eq(again->workers_threads, 3);
	ck_assert_int_eq(again->workers_batch, 7);
	ck_assert_str_eq(conf_next_change(conf, again, &at)->path, "workers.threads");
	const struct option *o = conf_next_change(conf, again, &at);
	ck_assert_str_eq(o->path, "stats.socket");
	ck_assert(!o->reloadable);
	ck_assert_ptr_null(conf_next_change(conf, again, &at));
	conf_free(again);
	put("strandd.conf", 0644, "workers: { threads = 0; };");
	again = NULL;
	ck_assert_int_eq(conf_reread(&again, conf, &reports), STRAND_EINVAL);
	ck_assert_ptr_null(again);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("conf_origins");
	TCase *t = tcase_create("origins");
	SRunner *sr;
	int failed;

	tcase_add_checked_fixture(t, make_dir, finish);
	tcase_add_test(t, each_over_those_before);
	tcase_add_test(t, lists_are_joined);
	tcase_add_test(t, a_list_in_the_first_file_replaces_the_three);
	tcase_add_test(t, what_stands_twice_names_both_places);
	tcase_add_test(t, errors_of_all_files_are_told);
	tcase_add_test(t, values_as_text);
	tcase_add_loop_test(t, bad_set, 0, (int)(sizeof(bad_sets) / sizeof(bad_sets[0])));
	tcase_add_test(t, a_password_is_no_argument);
	tcase_add_test(t, ports_of_the_environment);
	tcase_add_test(t, variables_that_are_near);
	tcase_add_test(t, as_the_specification_has_it);
	tcase_add_test(t, channels_of_no_route);
	tcase_add_test(t, password_from_a_file);
	tcase_add_loop_test(t, bad_password_file, 0, (int)(sizeof(bad_passwords) / sizeof(bad_passwords[0])));
	tcase_add_test(t, password_from_a_credential);
	tcase_add_test(t, read_again);
	suite_add_tcase(s, t);
	sr = srunner_create(s);
	srunner_run_all(sr, CK_ENV);
	failed = srunner_ntests_failed(sr);
	srunner_free(sr);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
