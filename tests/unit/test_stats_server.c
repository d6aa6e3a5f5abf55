#include "stats/server.h"

#include <check.h>
#include <dirent.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"

static const char *const tags[] = { "dm:evaluate_plan" };
static const char *const sources[] = { "AD_strands" };

static char path[64];
static struct metrics *metrics;
static struct stats_server *server;

static void set_up(void)
{
	unsigned slot;

	/* In the build tree, where `make clean` finds what a killed test leaves. */
	snprintf(path, sizeof(path), "test_stats_server.%d.sock", (int)getpid());

	ck_assert_int_eq(metrics_new(&metrics), 0);
	ck_assert_int_eq(metric_slot(metrics, tags[0], sources[0], &slot), 0);
	metric_add(metrics, METRIC_SETTLED, 0, 42);
	server = NULL;
}

static void tear_down(void)
{
	stats_server_stop(server);
	metrics_free(metrics);
	unlink(path);
}

static void start(void)
{
	struct err e = { 0 };
	int r = stats_server_start(&server, path, metrics, &e);

	ck_assert_msg(r == 0, "%s", e.text);
}

static int dial(void)
{
	struct sockaddr_un addr = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	memcpy(addr.sun_path, path, strlen(path) + 1);
	ck_assert_int_eq(connect(fd, (struct sockaddr *)&addr, sizeof(addr)), 0);
	return fd;
}

/* Reads up to the end of the connection; the answer's length. */
static size_t read_all(int fd, char *out, size_t size)
{
	size_t len = 0;
	ssize_t n;

	while ((n = read(fd, out + len, size - 1 - len)) > 0)
		len += (size_t)n;
	out[len] = '\0';
	return len;
}

static void ask(const char *request, char *out, size_t size)
{
	int fd = dial();

	ck_assert_int_eq(send(fd, request, strlen(request), MSG_NOSIGNAL), (ssize_t)strlen(request));
	read_all(fd, out, size);
	close(fd);
}

START_TEST(get_metrics)
{
	char answer[32768];

	start();
	ask("GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n", answer, sizeof(answer));
	ck_assert_int_eq(strncmp(answer, "HTTP/1.1 200 ", 13), 0);
	ck_assert_ptr_nonnull(strstr(answer, "Content-Type: text/plain; version=0.0.4; charset=utf-8\r\n"));
	ck_assert_ptr_nonnull(strstr(answer, "\r\n\r\n# HELP "));
	ck_assert_ptr_nonnull(strstr(answer, "\nstrandd_settled_total{tag=\"dm:evaluate_plan\",source=\"AD_strands\"} 42\n"));
}
END_TEST

START_TEST(head_has_no_body)
{
	char answer[32768], *body;

	start();
	ask("HEAD /metrics HTTP/1.1\r\nHost: x\r\n\r\n", answer, sizeof(answer));
	ck_assert_int_eq(strncmp(answer, "HTTP/1.1 200 ", 13), 0);
	body = strstr(answer, "\r\n\r\n");
	ck_assert_ptr_nonnull(body);
	ck_assert_str_eq(body, "\r\n\r\n");
}
END_TEST

START_TEST(everything_else_is_refused)
{
	static const struct { const char *request, *status; } table[] = {
		{ "GET / HTTP/1.1\r\nHost: x\r\n\r\n", "HTTP/1.1 404 " },
		{ "GET /metrics/ HTTP/1.1\r\nHost: x\r\n\r\n", "HTTP/1.1 404 " },
		{ "GET /../metrics HTTP/1.0\r\n\r\n", "HTTP/1.1 404 " },
		{ "DELETE /metrics HTTP/1.1\r\nHost: x\r\n\r\n", "HTTP/1.1 405 " },
		{ "POST /metrics HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nabc", "HTTP/1.1 405 " },
	};
	char answer[32768];

	start();
	for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
		ask(table[i].request, answer, sizeof(answer));
		ck_assert_msg(strstr(answer, table[i].status) == answer, "%s -> %s", table[i].request, answer);
		if (strstr(table[i].status, "405"))
			ck_assert_ptr_nonnull(strstr(answer, "\r\nAllow: GET, HEAD\r\n"));
	}
	ask("GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n", answer, sizeof(answer));
	ck_assert_int_eq(strncmp(answer, "HTTP/1.1 200 ", 13), 0);
}
END_TEST

START_TEST(query_is_ignored)
{
	char answer[32768];

	start();
	ask("GET /metrics?name=x HTTP/1.1\r\nHost: x\r\n\r\n", answer, sizeof(answer));
	ck_assert_int_eq(strncmp(answer, "HTTP/1.1 200 ", 13), 0);
}
END_TEST

START_TEST(mode_and_removal)
{
	struct stat st;
	mode_t old = umask(_i ? 0 : 077);

	start();
	umask(old);
	ck_assert_int_eq(stat(path, &st), 0);
	ck_assert(S_ISSOCK(st.st_mode));
	ck_assert_int_eq(st.st_mode & 07777, 0660);
	stats_server_stop(server);
	server = NULL;
	ck_assert_int_lt(stat(path, &st), 0);
}
END_TEST

START_TEST(a_dead_socket_is_replaced)
{
	struct sockaddr_un addr = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, SOCK_STREAM, 0);

	memcpy(addr.sun_path, path, strlen(path) + 1);
	ck_assert_int_eq(bind(fd, (struct sockaddr *)&addr, sizeof(addr)), 0);
	if (_i)
		ck_assert_int_eq(listen(fd, 1), 0);
	close(fd);
	start();
	close(dial());
}
END_TEST

START_TEST(a_live_socket_is_refused)
{
	struct stats_server *second = NULL;
	struct err e = { 0 };
	char answer[32768];

	start();
	ck_assert_int_eq(stats_server_start(&second, path, metrics, &e), STRAND_EFULL);
	ck_assert_ptr_null(second);
	ck_assert_msg(strstr(e.text, path) && strstr(e.text, "another process answers"), "%s", e.text);
	ask("GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n", answer, sizeof(answer));
	ck_assert_int_eq(strncmp(answer, "HTTP/1.1 200 ", 13), 0);
}
END_TEST

START_TEST(a_file_is_left_alone)
{
	struct err e = { 0 };
	FILE *f = fopen(path, "w");

	fputs("precious", f);
	fclose(f);
	ck_assert_int_eq(stats_server_start(&server, path, metrics, &e), STRAND_EINVAL);
	ck_assert_msg(strstr(e.text, "no socket") != NULL, "%s", e.text);
	ck_assert_int_eq(access(path, F_OK), 0);
}
END_TEST

START_TEST(bad_paths)
{
	struct err e = { 0 };
	char longest[200];

	memset(longest, 'x', sizeof(longest));
	memcpy(longest, path, strlen(path));
	longest[108] = '\0';
	ck_assert_int_eq(stats_server_start(&server, longest, metrics, &e), STRAND_EINVAL);
	ck_assert_msg(strstr(e.text, "107 bytes") && strstr(e.text, "has 108"), "%s", e.text);
	longest[107] = '\0';
	ck_assert_int_eq(stats_server_start(&server, longest, metrics, &e), 0);
	stats_server_stop(server);
	server = NULL;
	ck_assert_int_eq(stats_server_start(&server, "", metrics, &e), STRAND_EINVAL);
	ck_assert_int_eq(stats_server_start(&server, "/no-such-directory/s", metrics, &e), STRAND_ESYS);
	ck_assert_msg(strstr(e.text, "No such file") != NULL, "%s", e.text);
}
END_TEST

START_TEST(somebody_elses_file_is_not_removed)
{
	FILE *f;

	start();
	unlink(path);
	f = fopen(path, "w");
	fclose(f);
	stats_server_stop(server);
	server = NULL;
	ck_assert_int_eq(access(path, F_OK), 0);
}
END_TEST

static bool a_thread_is_named(const char *name)
{
	DIR *tasks = opendir("/proc/self/task");
	struct dirent *d;
	bool found = false;

	while ((d = readdir(tasks)) != NULL) {
		char file[300], comm[32] = "";
		FILE *f;

		snprintf(file, sizeof(file), "/proc/self/task/%s/comm", d->d_name);
		f = fopen(file, "r");
		if (!f)
			continue;
		if (fgets(comm, sizeof(comm), f)) {
			comm[strcspn(comm, "\n")] = '\0';
			found |= strcmp(comm, name) == 0;
		}
		fclose(f);
	}
	closedir(tasks);
	return found;
}

START_TEST(thread_is_named)
{
	char answer[32768];

	start();
	ask("GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n", answer, sizeof(answer));
	ck_assert(a_thread_is_named("stats"));
}
END_TEST

/* More clients than connections, all silent or sending a byte now and then:
 * each is cut off in bounded time, a proper client is served, and the thread
 * does not spin meanwhile. */
START_TEST(slow_clients_hold_nothing)
{
	char answer[32768];
	int fds[20];
	int64_t begin = clock_now(), took;
	clock_t cpu;
	struct pollfd gone;

	start();
	for (int i = 0; i < 20; i++)
		fds[i] = dial();
	cpu = clock();
	for (int i = 0; i < 130; i++) {
		char c = i ? 'x' : 'G';

		for (int k = 0; k < 10; k++)
			(void)!send(fds[k], &c, 1, MSG_NOSIGNAL);
		usleep(100000);
	}
	took = clock() - cpu;
	ck_assert_msg(took < CLOCKS_PER_SEC, "%.2f s of processor time", (double)took / CLOCKS_PER_SEC);
	for (int i = 0; i < 10; i++) {
		gone = (struct pollfd){ .fd = fds[i], .events = POLLRDHUP };
		ck_assert_msg(poll(&gone, 1, 0) == 1 && gone.revents & (POLLHUP | POLLRDHUP), "client %d is still there", i);
	}
	ask("GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n", answer, sizeof(answer));
	ck_assert_int_eq(strncmp(answer, "HTTP/1.1 200 ", 13), 0);
	for (int i = 0; i < 20; i++)
		close(fds[i]);
	ck_assert_int_lt((clock_now() - begin) / NSEC_PER_SEC, 30);
}
END_TEST

/* At the bound on connections with nobody saying a word: those who wait in the
 * backlog have their turn when the silent ones are cut off. */
START_TEST(silent_clients_hold_nothing)
{
	char answer[32768];
	int fds[20];

	start();
	for (int i = 0; i < 20; i++)
		fds[i] = dial();
	ask("GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n", answer, sizeof(answer));
	ck_assert_int_eq(strncmp(answer, "HTTP/1.1 200 ", 13), 0);
	for (int i = 0; i < 20; i++)
		close(fds[i]);
}
END_TEST

START_TEST(stops_while_clients_wait)
{
	int a, b;
	int64_t begin;

	start();
	a = dial();
	b = dial();
	(void)!send(a, "GET /met", 8, MSG_NOSIGNAL);
	usleep(50000);
	begin = clock_now();
	stats_server_stop(server);
	server = NULL;
	ck_assert_int_lt((clock_now() - begin) / NSEC_PER_MSEC, 2000);
	close(a);
	close(b);
}
END_TEST

START_TEST(many_scrapes_leave_no_descriptors)
{
	char answer[32768];
	int before, after;

	start();
	ask("GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n", answer, sizeof(answer));
	before = dup(0);
	close(before);
	for (int i = 0; i < 500; i++) {
		ask("GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n", answer, sizeof(answer));
		ck_assert_int_eq(strncmp(answer, "HTTP/1.1 200 ", 13), 0);
	}
	usleep(50000);
	after = dup(0);
	close(after);
	ck_assert_int_le(after, before + 1);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("stats_server");
	TCase *tc = tcase_create("stats_server");
	SRunner *runner;
	int failed;

	tcase_set_timeout(tc, 60);
	tcase_add_checked_fixture(tc, set_up, tear_down);
	tcase_add_test(tc, get_metrics);
	tcase_add_test(tc, head_has_no_body);
	tcase_add_test(tc, everything_else_is_refused);
	tcase_add_test(tc, query_is_ignored);
	tcase_add_loop_test(tc, mode_and_removal, 0, 2);
	tcase_add_loop_test(tc, a_dead_socket_is_replaced, 0, 2);
	tcase_add_test(tc, a_live_socket_is_refused);
	tcase_add_test(tc, a_file_is_left_alone);
	tcase_add_test(tc, bad_paths);
	tcase_add_test(tc, somebody_elses_file_is_not_removed);
	tcase_add_test(tc, thread_is_named);
	tcase_add_test(tc, slow_clients_hold_nothing);
	tcase_add_test(tc, silent_clients_hold_nothing);
	tcase_add_test(tc, stops_while_clients_wait);
	tcase_add_test(tc, many_scrapes_leave_no_descriptors);
	suite_add_tcase(suite, tc);
	runner = srunner_create(suite);
	srunner_run_all(runner, CK_ENV);
	failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
