#include "base/buf.h"
#include "base/clock.h"
#include "base/err.h"
#include "base/event.h"
#include "base/failpoint.h"
#include "base/log.h"
#include "base/nearest.h"
#include "base/stop.h"
#include "base/thread.h"

#include <check.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

/* --- err */

START_TEST(err_text_is_one_line)
{
	struct err e = { .sqlstate = "42P01" };

	ck_assert_int_eq(err_set(&e, STRAND_ESQL, "a\nb %d\r\n", 7), STRAND_ESQL);
	ck_assert_int_eq(e.code, STRAND_ESQL);
	ck_assert_str_eq(e.text, "a b 7  ");
	ck_assert_str_eq(e.sqlstate, "");
	ck_assert_int_eq(err_set(NULL, STRAND_EFULL, "%s", "x"), STRAND_EFULL);
}
END_TEST

START_TEST(err_takes_its_own_text)
{
	struct err e;

	err_set(&e, STRAND_ESYS, "inner");
	err_set(&e, STRAND_ESYS, "outer: %s", e.text);
	ck_assert_str_eq(e.text, "outer: inner");
}
END_TEST

START_TEST(err_text_is_bounded)
{
	char longest[2000];
	struct err e;

	memset(longest, 'x', sizeof(longest));
	longest[sizeof(longest) - 1] = '\0';
	err_set(&e, STRAND_EINVAL, "%s", longest);
	ck_assert_uint_eq(strlen(e.text), sizeof(e.text) - 1);
}
END_TEST

START_TEST(err_names)
{
	ck_assert_str_eq(err_name(STRAND_OK), "STRAND_OK");
	for (int code = STRAND_ENOMEM; code >= STRAND_EDOUBT; code--)
		ck_assert(strncmp(err_name(code), "STRAND_E", 8) == 0);
	ck_assert_str_eq(err_name(STRAND_EPROTO), "STRAND_EPROTO");
	ck_assert_str_eq(err_name(STRAND_EHANDLER), "STRAND_EHANDLER");
	ck_assert_str_eq(err_name(STRAND_EDOUBT - 1), "unknown error");
	ck_assert_str_eq(err_name(1), "unknown error");
}
END_TEST

/* --- clock */

START_TEST(clock_deadlines)
{
	int64_t before = clock_now();
	int64_t deadline = clock_after_ms(1000);
	int left = clock_left_ms(deadline);

	ck_assert_int_ge(deadline, before + NSEC_PER_SEC);
	ck_assert_int_gt(left, 0);
	ck_assert_int_le(left, 1000);
	ck_assert_int_eq(clock_left_ms(before), 0);
	ck_assert_int_eq(clock_left_ms(INT64_MIN), 0);
	ck_assert_int_eq(clock_left_ms(clock_now() + 1 + NSEC_PER_SEC / 100) > 0, 1);
}
END_TEST

START_TEST(clock_far_away)
{
	ck_assert_int_eq(clock_after_ms(INT64_MAX), INT64_MAX);
	ck_assert_int_eq(clock_after_ms(INT64_MIN), INT64_MIN);
	ck_assert_int_eq(clock_left_ms(INT64_MAX), INT_MAX);
}
END_TEST

/* --- buf */

START_TEST(buf_grows)
{
	struct buf b = BUF_INIT;
	char *text;

	for (int i = 0; i < 1000; i++)
		buf_addf(&b, "%d,", i % 10);
	ck_assert_uint_eq(b.len, 2000);
	ck_assert_uint_eq(strlen(b.data), 2000);
	text = buf_steal(&b);
	ck_assert_int_eq(text[1998], '9');
	free(text);
	ck_assert_ptr_null(b.data);
}
END_TEST

START_TEST(buf_formats_at_every_length)
{
	for (int len = 0; len < 300; len++) {
		struct buf b;

		buf_init(&b);
		buf_addf(&b, "%*s|", len, "");
		ck_assert_uint_eq(b.len, (size_t)len + 1);
		ck_assert_int_eq(b.data[len], '|');
		ck_assert_int_eq(b.data[len + 1], '\0');
		buf_release(&b);
	}
}
END_TEST

START_TEST(buf_takes_bytes)
{
	struct buf b;

	buf_init(&b);
	ck_assert_str_eq(b.data, "");
	buf_add(&b, "a\0b", 3);
	buf_add(&b, NULL, 0);
	buf_adds(&b, "c");
	ck_assert_uint_eq(b.len, 4);
	ck_assert_int_eq(memcmp(b.data, "a\0bc", 5), 0);
	buf_clear(&b);
	ck_assert_uint_eq(b.len, 0);
	ck_assert_str_eq(b.data, "");
	buf_release(&b);
	buf_release(&b);
}
END_TEST

START_TEST(buf_steal_of_nothing)
{
	struct buf b = BUF_INIT;
	char *text = buf_steal(&b);

	ck_assert_str_eq(text, "");
	free(text);
}
END_TEST

START_TEST(buf_fails_for_good)
{
	struct buf b = BUF_INIT;

	buf_adds(&b, "kept");
	buf_add(&b, "x", SIZE_MAX - 2);
	ck_assert(b.failed);
	buf_adds(&b, "more");
	buf_addf(&b, "%d", 1);
	ck_assert_str_eq(b.data, "kept");
	ck_assert_ptr_null(buf_steal(&b));
	ck_assert(!b.failed);
	buf_add(&b, "x", SIZE_MAX);
	buf_clear(&b);
	ck_assert(!b.failed);
	buf_release(&b);
}
END_TEST

/* --- event and stop */

START_TEST(event_signals)
{
	struct event e;

	ck_assert_int_eq(event_init(&e), 0);
	ck_assert_int_eq(fcntl(e.fd, F_GETFD) & FD_CLOEXEC, FD_CLOEXEC);
	ck_assert_int_eq(event_wait(&e, clock_after_ms(20)), STRAND_ETIMEOUT);
	event_clear(&e);
	event_signal(&e);
	event_signal(&e);
	ck_assert_int_eq(event_wait(&e, clock_now()), 0);
	ck_assert_int_eq(event_wait(&e, clock_after_ms(10000)), 0);
	event_clear(&e);
	ck_assert_int_eq(event_wait(&e, clock_now()), STRAND_ETIMEOUT);
	event_release(&e);
	ck_assert_int_eq(e.fd, -1);
	event_release(&e);
}
END_TEST

static void signal_later(void *arg)
{
	poll(NULL, 0, 20);
	event_signal(arg);
}

START_TEST(event_wakes_another_thread)
{
	struct thread t = { 0 };
	struct event e;

	ck_assert_int_eq(event_init(&e), 0);
	ck_assert_int_eq(thread_start(&t, "signaller", signal_later, &e, NULL), 0);
	ck_assert_int_eq(event_wait(&e, clock_after_ms(3000)), 0);
	thread_join(&t);
	event_release(&e);
}
END_TEST

static bool is_set(struct event *e)
{
	return event_wait(e, clock_now()) == 0;
}

START_TEST(stop_only_rises)
{
	struct stop s;

	ck_assert_int_eq(stop_init(&s), 0);
	ck_assert_int_eq(stop_level(&s), STOP_NONE);
	stop_raise(&s, STOP_NONE);
	ck_assert(!is_set(&s.drain));
	stop_raise(&s, STOP_DRAIN);
	ck_assert_int_eq(stop_level(&s), STOP_DRAIN);
	ck_assert(is_set(&s.drain) && !is_set(&s.now));
	stop_raise(&s, STOP_NOW);
	stop_raise(&s, STOP_DRAIN);
	ck_assert_int_eq(stop_level(&s), STOP_NOW);
	ck_assert(is_set(&s.drain) && is_set(&s.now));
	stop_release(&s);
}
END_TEST

START_TEST(stop_at_once)
{
	struct stop s;

	ck_assert_int_eq(stop_init(&s), 0);
	stop_raise(&s, STOP_NOW);
	ck_assert_int_eq(stop_level(&s), STOP_NOW);
	ck_assert(is_set(&s.drain) && is_set(&s.now));
	stop_release(&s);
}
END_TEST

/* --- thread */

struct seen {
	char name[16], kernel_name[16];
	sigset_t blocked;
};

static void look(void *arg)
{
	struct seen *seen = arg;

	snprintf(seen->name, sizeof(seen->name), "%s", thread_name());
	pthread_getname_np(pthread_self(), seen->kernel_name, sizeof(seen->kernel_name));
	pthread_sigmask(SIG_BLOCK, NULL, &seen->blocked);
}

START_TEST(thread_bears_its_name)
{
	struct thread t = { 0 };
	struct seen seen;
	sigset_t own;

	ck_assert_str_eq(thread_name(), "main");
	ck_assert_int_eq(thread_start(&t, "a-name-of-over-15-bytes", look, &seen, NULL), 0);
	ck_assert(t.started);
	thread_join(&t);
	ck_assert(!t.started);
	thread_join(&t);
	ck_assert_str_eq(seen.name, "a-name-of-over-");
	ck_assert_str_eq(seen.kernel_name, "a-name-of-over-");
	ck_assert(sigismember(&seen.blocked, SIGTERM) && sigismember(&seen.blocked, SIGUSR1));
	pthread_sigmask(SIG_BLOCK, NULL, &own);
	ck_assert(!sigismember(&own, SIGTERM));
}
END_TEST

static void *name_of_foreign_thread(void *arg)
{
	pthread_setname_np(pthread_self(), "foreign");
	snprintf(arg, 16, "%s", thread_name());
	return NULL;
}

START_TEST(thread_of_a_library)
{
	char name[16];
	pthread_t id;

	ck_assert_int_eq(pthread_create(&id, NULL, name_of_foreign_thread, name), 0);
	pthread_join(id, NULL);
	ck_assert_str_eq(name, "foreign");
}
END_TEST

/* --- nearest */

START_TEST(distances)
{
	ck_assert_uint_eq(edit_distance("", ""), 0);
	ck_assert_uint_eq(edit_distance("", "abc"), 3);
	ck_assert_uint_eq(edit_distance("threads", "thraeds"), 1);
	ck_assert_uint_eq(edit_distance("kitten", "sitting"), 3);
	ck_assert_uint_eq(edit_distance("Batch", "bATCH"), 0);
}
END_TEST

START_TEST(nearest_name)
{
	static const char *const names[] = { "threads", "batch", "handler_timeout_ms" };

	ck_assert_str_eq(nearest("handler_timeout", names, 3), "handler_timeout_ms");
	ck_assert_str_eq(nearest("bach", names, 3), "batch");
	ck_assert_ptr_null(nearest("colour", names, 3));
	ck_assert_ptr_null(nearest("x", names, 0));
}
END_TEST

START_TEST(nearest_of_paths)
{
	static const char *const paths[] = { "workers.threads", "notifications.channels", "queue.limit" };

	ck_assert_str_eq(nearest_path("worker.thread", paths, 3), "workers.threads");
	ck_assert_str_eq(nearest_path("Notification.channel", paths, 3), "notifications.channels");
	ck_assert_str_eq(nearest_path("notifications.channels_", paths, 3), "notifications.channels");
	ck_assert_str_eq(nearest_path("queue.limit", paths, 3), "queue.limit");
	ck_assert_ptr_null(nearest_path("notifications.interval", paths, 3));
	ck_assert_ptr_null(nearest_path("", paths, 3));
	ck_assert_ptr_null(nearest_path("x", paths, 0));
}
END_TEST

/* --- failpoints */

#ifdef ENABLE_FAILPOINTS

START_TEST(failpoint_unarmed)
{
	unsetenv("STRANDD_FAILPOINTS");
	ck_assert(!FAILPOINT("here"));
}
END_TEST

START_TEST(failpoint_error)
{
	setenv("STRANDD_FAILPOINTS", "here=error;there=error@2;there=error@4", 1);
	ck_assert(FAILPOINT("here"));
	ck_assert(FAILPOINT("here"));
	ck_assert(!FAILPOINT("elsewhere"));
	ck_assert(!FAILPOINT("there"));
	ck_assert(FAILPOINT("there"));
	ck_assert(!FAILPOINT("there"));
	ck_assert(FAILPOINT("there"));
	ck_assert(!FAILPOINT("there"));
}
END_TEST

START_TEST(failpoint_sleep)
{
	int64_t before = clock_now();

	setenv("STRANDD_FAILPOINTS", "here=sleep:30@1", 1);
	ck_assert(!FAILPOINT("here"));
	ck_assert_int_ge(clock_now() - before, 30 * NSEC_PER_MSEC);
}
END_TEST

static void remove_later(void *arg)
{
	poll(NULL, 0, 50);
	unlink(arg);
}

START_TEST(failpoint_hold)
{
	char file[64], points[128];
	struct thread t = { 0 };
	int fd;

	snprintf(file, sizeof(file), "test_base.%d@hold", (int)getpid());
	snprintf(points, sizeof(points), "here=hold:%s", file);
	setenv("STRANDD_FAILPOINTS", points, 1);
	fd = open(file, O_CREAT | O_WRONLY, 0600);
	ck_assert_int_ge(fd, 0);
	close(fd);
	ck_assert_int_eq(thread_start(&t, "remover", remove_later, file, NULL), 0);
	ck_assert(!FAILPOINT("here"));
	ck_assert_int_ne(access(file, F_OK), 0);
	thread_join(&t);
}
END_TEST

START_TEST(failpoint_kill)
{
	setenv("STRANDD_FAILPOINTS", "here=kill@3", 1);
	ck_assert(!FAILPOINT("here"));
	ck_assert(!FAILPOINT("here"));
	FAILPOINT("here");
}
END_TEST

START_TEST(failpoint_stop)
{
	int status = 0;
	pid_t child;

	setenv("STRANDD_FAILPOINTS", "here=stop", 1);
	child = fork();
	if (child == 0)
		_exit(FAILPOINT("here") ? 1 : 7);
	ck_assert_int_eq(waitpid(child, &status, WUNTRACED), child);
	ck_assert(WIFSTOPPED(status));
	kill(child, SIGCONT);
	ck_assert_int_eq(waitpid(child, &status, 0), child);
	ck_assert(WIFEXITED(status) && WEXITSTATUS(status) == 7);
}
END_TEST

static const char *const bad_points[] = {
	"here", "=kill", "here=", "here=explode", "here=sleep", "here=sleep:", "here=kill:9",
	"here=error@0", "good=error;bad=what", "here=error@99999999999999999999",
};

START_TEST(failpoint_misspelt)
{
	setenv("STRANDD_FAILPOINTS", bad_points[_i], 1);
	FAILPOINT("here");
}
END_TEST

static void add_failpoints(Suite *s)
{
	TCase *t = tcase_create("failpoint");

	tcase_add_test(t, failpoint_unarmed);
	tcase_add_test(t, failpoint_error);
	tcase_add_test(t, failpoint_sleep);
	tcase_add_test(t, failpoint_hold);
	tcase_add_test_raise_signal(t, failpoint_kill, SIGKILL);
	tcase_add_test(t, failpoint_stop);
	tcase_add_loop_exit_test(t, failpoint_misspelt, EXIT_USAGE, 0,
				 (int)(sizeof(bad_points) / sizeof(bad_points[0])));
	suite_add_tcase(s, t);
}

#else

/* Elsewhere the macro is constant, whatever the environment says. */
START_TEST(failpoint_absent)
{
	setenv("STRANDD_FAILPOINTS", "here=kill", 1);
	ck_assert(!FAILPOINT("here"));
}
END_TEST

static void add_failpoints(Suite *s)
{
	TCase *t = tcase_create("failpoint");

	tcase_add_test(t, failpoint_absent);
	suite_add_tcase(s, t);
}

#endif

static void add_pure(Suite *s)
{
	TCase *t = tcase_create("pure");

	tcase_add_test(t, err_text_is_one_line);
	tcase_add_test(t, err_takes_its_own_text);
	tcase_add_test(t, err_text_is_bounded);
	tcase_add_test(t, err_names);
	tcase_add_test(t, clock_deadlines);
	tcase_add_test(t, clock_far_away);
	tcase_add_test(t, buf_grows);
	tcase_add_test(t, buf_formats_at_every_length);
	tcase_add_test(t, buf_takes_bytes);
	tcase_add_test(t, buf_steal_of_nothing);
	tcase_add_test(t, buf_fails_for_good);
	tcase_add_test(t, distances);
	tcase_add_test(t, nearest_name);
	tcase_add_test(t, nearest_of_paths);
	suite_add_tcase(s, t);
}

static void add_process(Suite *s)
{
	TCase *t = tcase_create("process");

	tcase_add_test(t, event_signals);
	tcase_add_test(t, event_wakes_another_thread);
	tcase_add_test(t, stop_only_rises);
	tcase_add_test(t, stop_at_once);
	tcase_add_test(t, thread_bears_its_name);
	tcase_add_test(t, thread_of_a_library);
	suite_add_tcase(s, t);
}

int main(void)
{
	Suite *s = suite_create("base");
	SRunner *sr;
	int failed;

	unsetenv("JOURNAL_STREAM");
	add_pure(s);
	add_process(s);
	add_failpoints(s);
	sr = srunner_create(s);
	srunner_run_all(sr, CK_ENV);
	failed = srunner_ntests_failed(sr);
	srunner_free(sr);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
