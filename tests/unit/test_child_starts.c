/* How processes are started, replaced and ended, and what is left of them: nothing. */
#include "child_support.h"

#include <fcntl.h>
#include <pwd.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

/* --- starts that fail --------------------------------------------------------- */

/* The first, and three that follow a failure: more there are not in this minute. */
START_TEST(a_command_that_is_not_there)
{
	int64_t end = clock_after_ms(LONG_MS);
	struct child *c;
	struct err e;

	policy.starts_per_minute = 3;
	c = add_command((const char *const[]){ "strandd-no-such-command", "x", NULL });
	ck_assert_str_eq(wait_for_failure(c), "cannot be started: \"strandd-no-such-command\": "
			 "No such file or directory (in none of PATH's directories)");
	while (child_failed_starts(c) < 4 && clock_now() < end)
		usleep(1000);
	/* The last may not have been told yet. */
	(void)!child_wait(c, clock_now(), -1, &e);
	ck_assert_int_eq(child_wait(c, clock_after_ms(500), -1, &e), STRAND_ETIMEOUT);
	ck_assert_uint_eq(child_failed_starts(c), 4);
	ck_assert_uint_eq(logged_times("cannot be started"), 4);
	assert_has(logged(), "(in none of PATH's directories); it is tried again in 5");
}
END_TEST

static void fails_with(const char *const *argv, const char *expected)
{
	struct child *c = add_command(argv);
	const char *text = wait_for_failure(c);

	assert_has(text, expected);
	supervisor_remove(supervisor, c);
}

START_TEST(what_cannot_be_started_says_why)
{
	char path[64];
	int fd;

	fails_with((const char *const[]){ "/no/such/command", NULL }, "cannot be started: \"/no/such/command\": No such file");
	fails_with((const char *const[]){ "/tmp", NULL }, "cannot be started: \"/tmp\": Permission denied");
	fails_with((const char *const[]){ "/etc/passwd", NULL }, "cannot be started: \"/etc/passwd\": Permission denied");
	/* Its interpreter is not there: setpriv says so. */
	snprintf(path, sizeof(path), "./test_child.%d.script", (int)getpid());
	fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0755);
	ck_assert_int_eq(write(fd, "#!/no/such/interpreter\n", 23), 23);
	close(fd);
	fails_with((const char *const[]){ path, NULL }, "the process exited with status 127 before it had read "
		   "a request: \"setpriv: failed to execute ./test_child.");
	unlink(path);
	policy.directory = "/no/such/directory";
	fails_with((const char *const[]){ "sh", NULL }, "cannot be started: directory \"/no/such/directory\": No such file");
	policy.directory = NULL;
	policy.user = "strandd-no-such-user";
	fails_with((const char *const[]){ "sh", NULL }, "cannot be started: user \"strandd-no-such-user\": there is none");
}
END_TEST

START_TEST(a_process_that_ends_at_once)
{
	struct child *c = add_shell("echo 'no module named x' >&2; exit 2");

	ck_assert_str_eq(wait_for_failure(c), "the process exited with status 2 before it had read a request: "
			 "\"no module named x\"");
	wait_for_failure(c);
	ck_assert_uint_ge(child_failed_starts(c), 2);
	wait_for_log("exited with status 2 before it had read a request; the next is started in ");
}
END_TEST

/* No other follows it, and nobody is told of one, but how it ended its worker is told. */
START_TEST(a_process_that_is_single)
{
	struct exchange *x = make_requests(1);
	struct child *c;
	struct err e;

	policy.single = true;
	c = add_shell("echo 'no module named x' >&2; exit 2");
	ck_assert_str_eq(wait_for_failure(c), "the process exited with status 2 before it had read a request: "
			 "\"no module named x\"");
	ck_assert_int_eq(child_wait(c, clock_after_ms(500), -1, &e), STRAND_ETIMEOUT);
	ck_assert_uint_eq(child_failed_starts(c), 1);
	supervisor_remove(supervisor, c);
	c = add_shell("read -r line; echo '{\"id\":\"S0\",\"replies\":[]}'; exit 3");
	wait_until_up(c);
	run(c, x);
	assert_states(x, "A");
	free_requests(x);
	wait_for_log("exited with status 3, after its answer");
	ck_assert_int_eq(child_wait(c, clock_after_ms(500), -1, &e), STRAND_ETIMEOUT);
	ck_assert_uint_eq(logged_times("next is started"), 0);
}
END_TEST

START_TEST(a_process_that_is_never_ready)
{
	struct child *c;

	policy.says_ready = true;
	policy.start_timeout_ms = 200;
	policy.grace_ms = 200;
	c = add_shell("trap '' TERM; while :; do sleep 1; done");
	ck_assert_str_eq(wait_for_failure(c), "the process was not ready within 0.2 s");
}
END_TEST

START_TEST(a_process_that_says_something_else)
{
	struct child *c;

	policy.says_ready = true;
	c = add_shell("echo hello; read line");
	assert_has(wait_for_failure(c), "the process did not begin with {\"ready\":true}, but with \"hello\"");
	supervisor_remove(supervisor, c);
	c = add_shell("exec >&-; exec sleep 1000");
	assert_has(wait_for_failure(c), "the process closed its standard output before it was ready");
	supervisor_remove(supervisor, c);
	c = add_shell("echo why >&2; exit 3");
	ck_assert_str_eq(wait_for_failure(c), "the process exited with status 3 before it was ready: \"why\"");
	supervisor_remove(supervisor, c);
	policy.max_line = 100;
	c = add_python("print('x' * 1000, flush=True)\nimport time\ntime.sleep(1000)");
	assert_has(wait_for_failure(c), "but with \"xxx");
	supervisor_remove(supervisor, c);
}
END_TEST

START_TEST(nothing_is_sent_before_it_is_ready)
{
	struct supervisor_counts n;
	struct child *c;
	char script[512];
	struct err e;
	FILE *f;

	policy.says_ready = true;
	snprintf(script, sizeof(script), "while ! test -e %s; do sleep 0.02; done; printf '{\"ready\":'; "
		 "sleep 0.1; echo 'true}'; exec /usr/bin/python3 -c \"$CODE\"", flag_path());
	policy.environment = (char *const[]){ NULL, NULL };
	((const char **)policy.environment)[0] = strcat(strcpy(malloc(sizeof("CODE=") + strlen(ECHO)), "CODE="), ECHO);
	c = add_shell(script);
	ck_assert_int_eq(child_wait(c, clock_after_ms(300), -1, &e), STRAND_ETIMEOUT);
	supervisor_counts(supervisor, &n);
	ck_assert_uint_eq(n.starting + n.waiting, 1);
	ck_assert_uint_eq(n.up, 0);
	f = fopen(flag_path(), "we");
	fclose(f);
	wait_until_up(c);
	ck_assert_int_gt(ask_pid(c), 1);
	supervisor_counts(supervisor, &n);
	ck_assert_uint_eq(n.up, 1);
	ck_assert_uint_eq(n.starts, 1);
	ck_assert_uint_eq(n.deaths, 0);
	free(policy.environment[0]);
}
END_TEST

START_TEST(a_wait_is_told_to_stop)
{
	struct child *c;
	struct event stop;
	struct err e;

	policy.says_ready = true;
	c = add_shell("read line");
	ck_assert_int_eq(event_init(&stop), 0);
	event_signal(&stop);
	ck_assert_int_eq(child_wait(c, clock_after_ms(LONG_MS), stop.fd, &e), STRAND_ESTOPPED);
	event_release(&stop);
}
END_TEST

/* Between two starts there is at least half of what the doubling says. */
START_TEST(backoff_is_honoured)
{
	int64_t begin = clock_now();
	struct child *c;

	policy.backoff_initial_ms = 40;
	policy.backoff_cap_ms = 160;
	c = add_command((const char *const[]){ "/no/such/command", NULL });
	for (int i = 0; i < 6; i++)
		wait_for_failure(c);
	ck_assert_int_ge((clock_now() - begin) / NSEC_PER_MSEC, 20 + 40 + 80 + 80 + 80);
}
END_TEST

/* --- what a process is given ---------------------------------------------------- */

static const char REPORT[] =
	"import os, sys, json, signal\n"
	"r = json.loads(sys.stdin.readline())\n"
	"status = dict(l.split(':\\t') for l in open('/proc/self/status').read().splitlines() if ':\\t' in l)\n"
	"fds = sorted(int(n) for n in os.listdir('/proc/self/fd'))\n"
	"say = {'fds': fds[:-1], 'group': os.getpgid(0) == os.getpid(), 'cwd': os.getcwd(),\n"
	"       'user': '%d %d %s' % (os.geteuid(), os.getegid(), os.getgroups()),\n"
	"       'blocked': int(status['SigBlk'], 16), 'pipe': os.environ.get('NOTIFY_SOCKET'),\n"
	"       'env': [os.environ.get(n) for n in ('HOME', 'USER', 'A', 'B', 'STRANDD_X', 'KEPT')],\n"
	"       'secrets': [n for n in os.environ if n.startswith(('PGPASS', 'CREDENTIALS', 'LISTEN_', 'FDSTORE'))]}\n"
	"print(json.dumps({'id': 'S0', 'replies': [say]}), flush=True)\n"
	"sys.stdin.read()\n";

static char *report(void)
{
	struct exchange *x = make_requests(1);
	struct child *c = add_python(REPORT);
	char *text;

	wait_until_up(c);
	run(c, x);
	assert_states(x, "A");
	text = strdup(x->requests[0].text);
	free_requests(x);
	return text;
}

START_TEST(what_it_inherits)
{
	sigset_t some;
	char *text;
	int open_for_all = dup(STDERR_FILENO);

	setenv("A", "ours", 1);
	setenv("KEPT", "k", 1);
	setenv("STRANDD_X", "secret", 1);
	setenv("NOTIFY_SOCKET", "/x", 1);
	setenv("PGPASSWORD", "secret", 1);
	setenv("CREDENTIALS_DIRECTORY", "/run/credentials/strandd.service", 1);
	setenv("LISTEN_PIDFDID", "7", 1);
	setenv("FDSTORE", "1", 1);
	sigemptyset(&some);
	sigaddset(&some, SIGUSR1);
	sigprocmask(SIG_BLOCK, &some, NULL);
	policy.directory = "/usr/bin";
	policy.environment = (char *const[]){ (char[]){ "A=theirs" }, (char[]){ "B=b=c" }, (char[]){ "B=last" }, NULL };
	text = report();
	assert_has(text, "\"fds\": [0, 1, 2],");
	assert_has(text, "\"group\": true");
	assert_has(text, "\"cwd\": \"/usr/bin\"");
	assert_has(text, "\"blocked\": 0");
	assert_has(text, "\"pipe\": null");
	assert_has(text, "\"secrets\": []");
	assert_has(text, "\"theirs\", \"last\", null, \"k\"]");
	free(text);
	close(open_for_all);
}
END_TEST

START_TEST(another_user)
{
	struct passwd *nobody = getpwnam("nobody");
	char *text, expected[128];

	if (geteuid() != 0 || !nobody)
		return;
	policy.user = "nobody";
	text = report();
	snprintf(expected, sizeof(expected), "\"user\": \"%u %u [%u]\"", nobody->pw_uid, nobody->pw_gid, nobody->pw_gid);
	assert_has(text, expected);
	snprintf(expected, sizeof(expected), "\"env\": [\"%s\", \"nobody\"", nobody->pw_dir);
	assert_has(text, expected);
	free(text);
}
END_TEST

/* --- replacement --------------------------------------------------------------- */

START_TEST(replaced_after_so_many_requests)
{
	struct child *c;
	pid_t first, pid;

	policy.max_requests = 3;
	c = add_python(ECHO);
	first = ask_pid(c);
	for (int i = 0; i < 2; i++) {
		child_tidy(c);
		ck_assert_int_eq(ask_pid(c), first);
	}
	child_tidy(c);
	pid = ask_pid(c);
	ck_assert_int_ne(pid, first);
	wait_until_dead(first);
	wait_for_log("has left, and is replaced");
	ck_assert_uint_eq(logged_times("the next is started"), 0);
	child_tidy(c);
	ck_assert_int_eq(ask_pid(c), pid);
}
END_TEST

START_TEST(replaced_when_old)
{
	struct child *c;
	pid_t first;

	policy.max_lifetime_ms = 1500;
	c = add_python(ECHO);
	first = ask_pid(c);
	usleep(1600000);
	ck_assert_int_eq(ask_pid(c), first);
	child_tidy(c);
	ck_assert_int_ne(ask_pid(c), first);
}
END_TEST

/* It does not leave at the end of its input, nor when it is told to. */
START_TEST(replaced_though_it_stays)
{
	struct child *c;
	pid_t first;

	policy.max_requests = 1;
	policy.grace_ms = 200;
	c = add_python("import signal, time\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
		       "import sys, json, os\n"
		       "for line in sys.stdin:\n"
		       "    print('{\"id\":\"S0\",\"replies\":[{\"pid\": %d}]}' % os.getpid(), flush=True)\n"
		       "while True: time.sleep(1)\n");
	first = ask_pid(c);
	child_tidy(c);
	ck_assert_int_ne(ask_pid(c), first);
	ck_assert(!is_alive(first));
}
END_TEST

enum { SLOTS = 3 };

static unsigned outdated(void)
{
	struct supervisor_counts n;

	supervisor_counts(supervisor, &n);
	return n.outdated;
}

START_TEST(all_are_replaced_one_after_the_other)
{
	struct child *c[SLOTS + 1];
	pid_t first[SLOTS + 1];

	policy.says_ready = true;
	for (int i = 0; i < SLOTS; i++)
		c[i] = add_shell("echo '{\"ready\":true}'; while read line; do "
				 "echo '{\"id\":\"S0\",\"replies\":[{\"pid\": '$$'}]}'; done");
	policy.name = "dm:other";
	c[SLOTS] = add_shell("echo '{\"ready\":true}'; while read line; do "
			     "echo '{\"id\":\"S0\",\"replies\":[{\"pid\": '$$'}]}'; done");
	for (int i = 0; i <= SLOTS; i++)
		first[i] = ask_pid(c[i]);
	ck_assert_uint_eq(outdated(), 0);
	for (int i = 0; i <= SLOTS; i++)
		child_tidy(c[i]);
	ck_assert_uint_eq(outdated(), 0);
	supervisor_replace_all(supervisor);
	ck_assert_uint_eq(outdated(), SLOTS + 1);
	for (int i = 0; i <= SLOTS; i++)
		ck_assert_int_eq(ask_pid(c[i]), first[i]);
	for (int i = 0; i < SLOTS; i++) {
		pid_t pid;

		child_tidy(c[i]);
		pid = ask_pid(c[i]);
		ck_assert_int_ne(pid, first[i]);
		ck_assert_uint_eq(outdated(), (unsigned)(SLOTS - i));
		child_tidy(c[i]);
		ck_assert_int_eq(ask_pid(c[i]), pid);
	}
	child_tidy(c[SLOTS]);
	ck_assert_int_ne(ask_pid(c[SLOTS]), first[SLOTS]);
	ck_assert_uint_eq(outdated(), 0);
}
END_TEST

/* The new ones do not work: the route loses one, and the other keeps serving. */
START_TEST(a_bad_deploy_stops_at_the_first)
{
	struct child *c[2];
	pid_t first[2];
	char script[256];
	FILE *f;

	policy.says_ready = true;
	snprintf(script, sizeof(script), "test ! -e %s || exit 1; echo '{\"ready\":true}'; while read line; do "
		 "echo '{\"id\":\"S0\",\"replies\":[{\"pid\": '$$'}]}'; done", flag_path());
	for (int i = 0; i < 2; i++)
		c[i] = add_shell(script);
	for (int i = 0; i < 2; i++)
		first[i] = ask_pid(c[i]);
	f = fopen(flag_path(), "we");
	fclose(f);
	supervisor_replace_all(supervisor);
	child_tidy(c[0]);
	for (int i = 0; i < 3; i++) {
		wait_for_failure(c[0]);
		child_tidy(c[1]);
		ck_assert_int_eq(ask_pid(c[1]), first[1]);
	}
	/* Mended, it goes on, without waiting for the next start's time. */
	unlink(flag_path());
	supervisor_replace_all(supervisor);
	/* The first may have been started in between, and wants to be replaced too. */
	for (int64_t until = clock_after_ms(LONG_MS); outdated() && clock_now() < until;) {
		for (int i = 0; i < 2; i++) {
			child_tidy(c[i]);
			(void)!child_wait(c[i], clock_after_ms(20), -1, NULL);
		}
	}
	ck_assert_uint_eq(outdated(), 0);
	ck_assert_int_ne(ask_pid(c[1]), first[1]);
}
END_TEST

START_TEST(what_waits_is_started_when_all_are_replaced)
{
	struct child *c;
	char path[64];

	policy.backoff_initial_ms = policy.backoff_cap_ms = 10 * LONG_MS;
	snprintf(path, sizeof(path), "./%s", flag_path());
	c = add_command((const char *const[]){ path, NULL });
	wait_for_failure(c);
	ck_assert_int_eq(symlink("/usr/bin/yes", path), 0);
	supervisor_replace_all(supervisor);
	wait_until_up(c);
}
END_TEST

/* --- the end -------------------------------------------------------------------- */

START_TEST(crashes_leave_nothing)
{
	unsigned crashes = SANITIZED ? 300 : 1000, before;
	struct supervisor_counts n;
	struct child *c = add_shell("read line; exit 3");

	wait_until_up(c);
	before = open_descriptors();
	for (unsigned i = 0; i < crashes; i++) {
		struct exchange *x = make_requests(2);

		wait_until_up(c);
		run(c, x);
		assert_states(x, "LU");
		ck_assert_str_eq(x->lost.text, "the process exited with status 3");
		free_requests(x);
	}
	wait_until_up(c);
	ck_assert_uint_eq(open_descriptors(), before);
	supervisor_counts(supervisor, &n);
	ck_assert_uint_eq(n.deaths, crashes);
	ck_assert_uint_eq(n.starts, crashes + 1);
	ck_assert_uint_eq(child_failed_starts(c), 0);
	/* One is there, and no zombie beside it. */
	ck_assert_int_eq(waitid(P_ALL, 0, &(siginfo_t){ 0 }, WEXITED | WNOHANG | WNOWAIT), 0);
	supervisor_stop(supervisor);
	supervisor = NULL;
	ck_assert(!has_children());
}
END_TEST

START_TEST(stop_leaves_no_process)
{
	pid_t pids[6] = { 0 };
	struct exchange *x = make_requests(1);
	struct child *stubborn;

	policy.grace_ms = 500;
	pids[0] = ask_pid(add_python(ECHO));
	pids[1] = ask_pid(add_python(ECHO));
	stubborn = add_shell("trap '' TERM; sh -c 'trap \"\" TERM; while :; do sleep 1; done' & read line; "
			     "echo '{\"id\":\"S0\",\"replies\":['$$', '$!']}'; while :; do sleep 1; done");
	wait_until_up(stubborn);
	run(stubborn, x);
	assert_states(x, "A");
	ck_assert_int_eq(sscanf(x->requests[0].text, "[%d, %d]", &pids[2], &pids[3]), 2);
	free_requests(x);
	add_command((const char *const[]){ "/no/such/command", NULL });
	supervisor_remove(supervisor, add_shell("sleep 1000"));
	supervisor_remove(supervisor, NULL);
	supervisor_stop(supervisor);
	supervisor = NULL;
	ck_assert(!has_children());
	for (int i = 0; pids[i]; i++)
		wait_until_dead(pids[i]);
}
END_TEST

START_TEST(removed_slots_are_gone)
{
	unsigned before = open_descriptors();
	struct supervisor_counts n;
	int64_t end = clock_after_ms(LONG_MS);
	struct child *c;
	pid_t pid;

	policy.grace_ms = 300;
	for (int i = 0; i < 5; i++) {
		c = i % 2 ? add_python(ECHO) : add_shell("trap '' TERM; while :; do sleep 1; done");
		pid = i % 2 ? ask_pid(c) : 0;
		supervisor_remove(supervisor, c);
		if (pid)
			wait_until_dead(pid);
	}
	do {
		usleep(2000);
		supervisor_counts(supervisor, &n);
	} while ((n.up || n.starting || n.waiting) && clock_now() < end);
	ck_assert_uint_eq(open_descriptors(), before);
	ck_assert_uint_eq(n.deaths, 0);
	ck_assert_uint_eq(logged_times("warning"), 0);
}
END_TEST

/* In a process of its own: strandd, which is killed. */
static void serve_and_tell(int fd)
{
	struct err e;
	struct exchange *x;
	struct child *c;

	if (supervisor_start(&supervisor, &e))
		_exit(1);
	/* It hears neither the end of its input nor SIGTERM. */
	c = add_shell("trap '' TERM; read line; echo '{\"id\":\"S0\",\"replies\":['$$']}'; while :; do sleep 1; done");
	wait_until_up(c);
	x = make_requests(1);
	run(c, x);
	dprintf(fd, "%s\n", x->requests[0].text);
	while (true)
		pause();
}

START_TEST(it_dies_with_strandd)
{
	char text[64] = "";
	int ends[2], pid;
	pid_t daemon;

	supervisor_stop(supervisor);
	supervisor = NULL;
	ck_assert_int_eq(pipe2(ends, O_CLOEXEC), 0);
	if (_i && geteuid() == 0)
		policy.user = "nobody";
	daemon = fork();
	ck_assert_int_ge(daemon, 0);
	if (!daemon)
		serve_and_tell(ends[1]);
	close(ends[1]);
	ck_assert_int_gt(read(ends[0], text, sizeof(text) - 1), 0);
	close(ends[0]);
	ck_assert_int_eq(sscanf(text, "[%d]", &pid), 1);
	ck_assert(is_alive(pid));
	kill(daemon, SIGKILL);
	ck_assert_int_eq(waitpid(daemon, NULL, 0), daemon);
	wait_until_dead(pid);
}
END_TEST

static TCase *part(Suite *s, const char *name)
{
	TCase *t = tcase_create(name);

	tcase_add_checked_fixture(t, rig_start, rig_stop);
	tcase_set_timeout(t, 240);
	suite_add_tcase(s, t);
	return t;
}

int main(void)
{
	Suite *s = suite_create("child_starts");
	TCase *t = part(s, "starts");

	tcase_add_test(t, a_command_that_is_not_there);
	tcase_add_test(t, what_cannot_be_started_says_why);
	tcase_add_test(t, a_process_that_ends_at_once);
	tcase_add_test(t, a_process_that_is_single);
	tcase_add_test(t, a_process_that_is_never_ready);
	tcase_add_test(t, a_process_that_says_something_else);
	tcase_add_test(t, nothing_is_sent_before_it_is_ready);
	tcase_add_test(t, a_wait_is_told_to_stop);
	tcase_add_test(t, backoff_is_honoured);
	tcase_add_test(t, what_it_inherits);
	tcase_add_test(t, another_user);
	t = part(s, "replacement");
	tcase_add_test(t, replaced_after_so_many_requests);
	tcase_add_test(t, replaced_when_old);
	tcase_add_test(t, replaced_though_it_stays);
	tcase_add_test(t, all_are_replaced_one_after_the_other);
	tcase_add_test(t, a_bad_deploy_stops_at_the_first);
	tcase_add_test(t, what_waits_is_started_when_all_are_replaced);
	t = part(s, "end");
	tcase_add_test(t, crashes_leave_nothing);
	tcase_add_test(t, stop_leaves_no_process);
	tcase_add_test(t, removed_slots_are_gone);
	tcase_add_loop_test(t, it_dies_with_strandd, 0, 2);
	return run_suite(s);
}
