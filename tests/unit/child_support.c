#include "child_support.h"

#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#ifdef STRANDD_TSAN
/* Each test is a process, and each would sleep a second at its end. */
const char *__tsan_default_options(void);
const char *__tsan_default_options(void)
{
	return "atexit_sleep_ms=20";
}
#endif

struct supervisor *supervisor;
struct child_policy policy;

static int log_fd, saved_stderr;
static unsigned descriptors;
static char flag[64];

const char ECHO[] =
	"import sys, json, os\n"
	"for line in sys.stdin:\n"
	"    r = json.loads(line)\n"
	"    print(json.dumps({'id': r['strand']['id'], 'attempt': r['attempt'],\n"
	"                      'replies': [{'pid': os.getpid(), 'strand': r['strand']}]}), flush=True)\n";

static void set_policy(void)
{
	policy = (struct child_policy){
		.name = "dm:plan",
		.source = "ad_strands",
		.in_flight = 10,
		.start_timeout_ms = LONG_MS,
		.timeout_ms = LONG_MS,
		.grace_ms = LONG_MS,
		.max_line = 1 << 20,
		.max_replies = 1000,
		.backoff_initial_ms = 2,
		.backoff_cap_ms = 4,
		.stderr_lines_per_second = 50,
	};
}

void rig_start(void)
{
	struct err e = { 0 };

	signal(SIGPIPE, SIG_IGN);
	set_policy();
	log_fd = memfd_create("log", MFD_CLOEXEC);
	ck_assert_int_ge(log_fd, 0);
	saved_stderr = fcntl(STDERR_FILENO, F_DUPFD_CLOEXEC, 3);
	dup2(log_fd, STDERR_FILENO);
	snprintf(flag, sizeof(flag), "test_child.%d.flag", (int)getpid());
	unlink(flag);
	descriptors = open_descriptors();
	ck_assert_msg(!supervisor_start(&supervisor, &e), "%s", e.text);
}

void rig_stop(void)
{
	supervisor_stop(supervisor);
	supervisor = NULL;
	dup2(saved_stderr, STDERR_FILENO);
	unlink(flag);
	ck_assert(!has_children());
	ck_assert_uint_eq(open_descriptors(), descriptors);
}

struct child *add_command(const char *const *argv)
{
	static unsigned number;
	struct child *c = NULL;
	struct err e = { 0 };

	policy.argv = (char *const *)argv;
	ck_assert_msg(!supervisor_add(supervisor, &policy, ++number, &c, &e), "%s", e.text);
	policy.argv = NULL;
	return c;
}

struct child *add_shell(const char *script)
{
	return add_command((const char *const[]){ "/bin/sh", "-c", script, NULL });
}

struct child *add_python(const char *script)
{
	return add_command((const char *const[]){ "/usr/bin/python3", "-c", script, NULL });
}

void wait_until_up(struct child *c)
{
	struct err e = { 0 };

	ck_assert_msg(!child_wait(c, clock_after_ms(LONG_MS), -1, &e), "%s", e.text);
}

const char *wait_for_failure(struct child *c)
{
	static struct err e;
	int64_t end = clock_after_ms(LONG_MS);
	int ret;

	/* It may be up for a moment before it fails. */
	do {
		ret = child_wait(c, end, -1, &e);
		if (!ret)
			usleep(1000);
	} while (!ret && clock_now() < end);
	ck_assert_int_eq(ret, STRAND_EINVAL);
	ck_assert_int_eq(e.code, STRAND_EINVAL);
	ck_assert_str_eq(e.sqlstate, SQLSTATE_HANDLER_START);
	return e.text;
}

struct exchange *make_requests(size_t n)
{
	struct exchange *x = calloc(1, sizeof(*x));
	char *text;

	ck_assert_ptr_nonnull(x);
	*x = (struct exchange){ .tag = "dm:plan", .source = "ad_strands", .n = n };
	x->requests = calloc(n + 1, sizeof(*x->requests));
	ck_assert_ptr_nonnull(x->requests);
	for (size_t i = 0; i < n; i++) {
		ck_assert_int_gt(asprintf(&text, "S%zu", i), 0);
		x->requests[i].id = text;
		x->requests[i].attempt = 1;
		ck_assert_int_gt(asprintf(&text, "{\"id\":\"S%zu\"}", i), 0);
		set_row(x, i, text);
	}
	return x;
}

void set_row(struct exchange *x, size_t i, char *row)
{
	free((void *)x->requests[i].row);
	x->requests[i].row = row;
	x->requests[i].row_len = strlen(row);
}

char *big_row(size_t i, size_t len)
{
	char *row = malloc(len + 64);
	int n;

	ck_assert_ptr_nonnull(row);
	n = snprintf(row, len + 64, "{\"id\":\"S%zu\",\"fill\":\"", i);
	memset(row + n, 'x', len);
	memcpy(row + n + len, "\"}", 3);
	return row;
}

void run(struct child *c, struct exchange *x)
{
	struct err e = { 0 };

	ck_assert_msg(!child_exchange(c, x, -1, -1, &e), "%s", e.text);
}

void free_requests(struct exchange *x)
{
	exchange_release(x);
	for (size_t i = 0; i < x->n; i++) {
		free((void *)x->requests[i].id);
		free((void *)x->requests[i].row);
	}
	free(x->requests);
	free(x);
}

void assert_states(const struct exchange *x, const char *states)
{
	static const char letters[] = {
		[REQUEST_UNSENT] = 'U', [REQUEST_ANSWERED] = 'A', [REQUEST_FAILED] = 'F', [REQUEST_LOST] = 'L',
		[REQUEST_LATE] = 'E',
	};
	char found[64] = "";

	ck_assert_uint_lt(x->n, sizeof(found));
	for (size_t i = 0; i < x->n; i++) {
		found[i] = letters[x->requests[i].state];
		ck_assert_int_eq(x->requests[i].text != NULL, found[i] == 'A' || found[i] == 'F');
	}
	ck_assert_msg(!strcmp(found, states), "%s, not %s; lost: %s", found, states, x->lost.text);
	ck_assert_int_eq(x->lost.code != 0, strchr(states, 'L') != NULL);
}

pid_t ask_pid(struct child *c)
{
	struct exchange *x = make_requests(1);
	const char *at;
	pid_t pid;

	wait_until_up(c);
	run(c, x);
	assert_states(x, "A");
	at = strstr(x->requests[0].text, "\"pid\": ");
	ck_assert_ptr_nonnull(at);
	pid = (pid_t)strtol(at + 7, NULL, 10);
	free_requests(x);
	ck_assert_int_gt(pid, 1);
	return pid;
}

const char *logged(void)
{
	static char text[1 << 20];
	ssize_t n = pread(log_fd, text, sizeof(text) - 1, 0);

	ck_assert_int_ge(n, 0);
	text[n] = '\0';
	return text;
}

unsigned logged_times(const char *part)
{
	unsigned n = 0;

	for (const char *p = logged(); (p = strstr(p, part)); p++)
		n++;
	return n;
}

void wait_for_log(const char *part)
{
	int64_t end = clock_after_ms(LONG_MS);

	while (!strstr(logged(), part)) {
		ck_assert_msg(clock_now() < end, "no \"%s\" in \"%s\"", part, logged());
		usleep(5000);
	}
}

bool is_alive(pid_t pid)
{
	char path[64], text[512], *state;
	FILE *f;
	size_t n;

	snprintf(path, sizeof(path), "/proc/%d/stat", (int)pid);
	f = fopen(path, "re");
	if (!f)
		return false;
	n = fread(text, 1, sizeof(text) - 1, f);
	fclose(f);
	text[n] = '\0';
	state = strrchr(text, ')');
	/* A grandchild's zombie is the business of the init process. */
	return state && state[1] == ' ' && state[2] != 'Z' && state[2] != 'X';
}

void wait_until_dead(pid_t pid)
{
	int64_t end = clock_after_ms(LONG_MS);

	while (is_alive(pid)) {
		ck_assert_msg(clock_now() < end, "process %d is alive", (int)pid);
		usleep(2000);
	}
}

bool has_children(void)
{
	siginfo_t info;

	return waitid(P_ALL, 0, &info, WEXITED | WNOHANG | WNOWAIT) == 0 || errno != ECHILD;
}

unsigned open_descriptors(void)
{
	DIR *d = opendir("/proc/self/fd");
	unsigned n = 0;

	ck_assert_ptr_nonnull(d);
	for (struct dirent *e; (e = readdir(d)); )
		n += isdigit((unsigned char)e->d_name[0]) != 0;
	closedir(d);
	return n - 1;
}

long memory_peak_kib(void)
{
	FILE *f = fopen("/proc/self/status", "re");
	char line[256];
	long kib = -1;

	ck_assert_ptr_nonnull(f);
	while (fgets(line, sizeof(line), f)) {
		if (sscanf(line, "VmHWM: %ld", &kib) == 1)
			break;
	}
	fclose(f);
	ck_assert_int_gt(kib, 0);
	return kib;
}

const char *flag_path(void)
{
	return flag;
}

void wait_for_flag(void)
{
	int64_t end = clock_after_ms(LONG_MS);

	while (access(flag, F_OK)) {
		ck_assert_msg(clock_now() < end, "no %s", flag);
		usleep(2000);
	}
}

int run_suite(Suite *s)
{
	SRunner *sr = srunner_create(s);
	int failed;

	srunner_run_all(sr, CK_ENV);
	failed = srunner_ntests_failed(sr);
	srunner_free(sr);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
