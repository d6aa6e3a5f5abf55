/* Processes that write too much, or read too little. */
#include "child_support.h"

#include <unistd.h>

#define MIB 1048576

START_TEST(a_line_may_be_so_long)
{
	struct exchange *x = make_requests(2);
	struct child *c;

	policy.max_line = 200;
	policy.in_flight = 1;
	c = add_python(
		"import sys\n"
		"for n in [200, 201]:\n"
		"    id = sys.stdin.readline().split('\"id\":\"')[1].split('\"')[0]\n"
		"    line = '{\"id\":\"%s\",\"replies\":[\"' % id\n"
		"    print(line + 'x' * (n - len(line) - 3) + '\"]}', flush=True)\n"
		"sys.stdin.read()\n");
	wait_until_up(c);
	run(c, x);
	assert_states(x, "AL");
	ck_assert_str_eq(x->lost.sqlstate, SQLSTATE_HANDLER_GARBAGE);
	assert_has(x->lost.text, "the process wrote a line of more than 200 bytes: \"{\"id\":\"S1\",\"replies\":[\"xxx");
	free_requests(x);
}
END_TEST

/* 100 MB in one line, of which no more than the bound is ever held. */
START_TEST(a_line_without_end)
{
	struct exchange *x = make_requests(1);
	struct child *c = add_python(
		"import sys, os\n"
		"sys.stdin.readline()\n"
		"os.write(1, b'{\"id\":\"S0\",\"replies\":[\"')\n"
		"for i in range(100): sys.stdout.buffer.write(b'x' * 1000000)\n");
	long before = memory_peak_kib();

	wait_until_up(c);
	run(c, x);
	assert_states(x, "L");
	assert_has(x->lost.text, "wrote a line of more than 1048576 bytes: \"{\"id\":\"S0\"");
	/* A sanitizer keeps what was freed for a while. */
	if (!SANITIZED)
		ck_assert_int_lt(memory_peak_kib() - before, 8 * 1024);
	free_requests(x);
}
END_TEST

/* 100 MB that are no answers, while it has its grace and uses it. */
START_TEST(what_nobody_reads_holds_up_nobody)
{
	struct exchange *x = make_requests(1);
	struct child *c = add_python(
		"import sys, signal\n"
		"signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
		"sys.stdin.readline()\n"
		"for i in range(100): sys.stdout.write('x' * 999999 + '\\n')\n"
		"sys.stdout.flush()\n");
	long before = memory_peak_kib();

	wait_until_up(c);
	run(c, x);
	assert_states(x, "L");
	assert_has(x->lost.text, "wrote a line that is not JSON: \"xxx");
	if (!SANITIZED)
		ck_assert_int_lt(memory_peak_kib() - before, 8 * 1024);
	free_requests(x);
}
END_TEST

/* Answers are read while requests do not fit into the pipe, and the other way round. */
START_TEST(big_requests_and_answers)
{
	struct exchange *x = make_requests(20);
	struct child *c;

	for (size_t i = 0; i < x->n; i++)
		set_row(x, i, big_row(i, i % 3 ? MIB : 10));
	policy.max_line = 2 * MIB;
	policy.in_flight = 20;
	c = add_python(ECHO);
	wait_until_up(c);
	run(c, x);
	assert_states(x, "AAAAAAAAAAAAAAAAAAAA");
	for (size_t i = 0; i < x->n; i++)
		ck_assert_int_eq(x->requests[i].text_len > MIB, i % 3 != 0);
	free_requests(x);
}
END_TEST

/* It never reads: nothing of that can be charged to a strand. */
START_TEST(a_process_that_never_reads)
{
	struct exchange *x = make_requests(5);
	struct child *c;

	for (size_t i = 0; i < x->n; i++)
		set_row(x, i, big_row(i, MIB));
	policy.timeout_ms = 300;
	policy.grace_ms = 300;
	c = add_shell("exec sleep 1000");
	wait_until_up(c);
	run(c, x);
	assert_states(x, "UUUUU");
	ck_assert_str_eq(wait_for_failure(c), "the process did not answer within 0.3 s before it had read a request");
	ck_assert_uint_ge(child_failed_starts(c), 1);
	free_requests(x);
}
END_TEST

/* It has begun to read one that is larger than a pipe: that one is lost. */
START_TEST(a_process_that_reads_a_little)
{
	struct exchange *x = make_requests(3);
	struct child *c;

	for (size_t i = 0; i < x->n; i++)
		set_row(x, i, big_row(i, MIB));
	policy.grace_ms = 300;
	c = add_shell("head -c 10 >&2; exit 5");
	wait_until_up(c);
	run(c, x);
	assert_states(x, "LUU");
	assert_has(x->lost.text, "the process exited with status 5");
	free_requests(x);
}
END_TEST

START_TEST(stderr_goes_to_the_log)
{
	struct child *c = add_shell("printf 'one\\n\\n  \\ntwo \\033[1mbold\\000\\r\\nlast' >&2; read line");
	char expected[64];

	wait_until_up(c);
	wait_for_log("two");
	supervisor_remove(supervisor, c);
	wait_for_log("last");
	assert_has(logged(), "info supervisor: handler 1 (pid ");
	snprintf(expected, sizeof(expected), "): one route=dm:plan source=ad_strands\n");
	assert_has(logged(), expected);
	assert_has(logged(), "): two \\u001b[1mbold? route=");
	ck_assert_uint_eq(logged_times("handler 1"), 3);
}
END_TEST

START_TEST(long_lines_of_stderr_are_cut)
{
	struct child *c = add_python("import sys, os\n"
				     "os.write(2, b'y' * 1900 + b'\\n' + b'x' * 3000 + b'\\nshort\\n')\n"
				     "sys.stdin.read()\n");
	const char *x;

	wait_until_up(c);
	wait_for_log("short");
	x = strstr(logged(), "): xxx");
	ck_assert_ptr_nonnull(x);
	ck_assert_uint_eq(strspn(x + 3, "x"), 1900);
	ck_assert(!strncmp(x + 1903, "... route=", 10));
	x = strstr(logged(), "): yyy");
	ck_assert_uint_eq(strspn(x + 3, "y"), 1900);
	ck_assert_int_eq(x[1903], ' ');
	supervisor_remove(supervisor, c);
	wait_for_log("0 lines and 1100 bytes in all of its standard error were left out");
}
END_TEST

static uint64_t left_out(uint64_t *ret_bytes)
{
	uint64_t lines = 0;

	*ret_bytes = 0;
	for (const char *p = logged(); (p = strstr(p, " of its standard error were left out")); p++) {
		const char *from = p;
		unsigned long long n, bytes;

		while (from > logged() && from[-1] != '\n')
			from--;
		from = strstr(from, "): ");
		ck_assert_int_eq(sscanf(from, "): %llu line%*[s ]and %llu bytes", &n, &bytes), 2);
		lines += n;
		*ret_bytes += bytes;
	}
	return lines;
}

/* 60 MB, a million lines: some are logged, all are counted, and it gets its answer out. */
START_TEST(a_flood_of_stderr)
{
	enum { LINES = 1000000, EACH = 60 };
	struct exchange *x = make_requests(1);
	struct child *c;
	long before = memory_peak_kib();
	uint64_t bytes, lines;
	unsigned kept;

	policy.stderr_lines_per_second = 5;
	c = add_python("import sys\n"
		       "sys.stdin.readline()\n"
		       "for i in range(1000): sys.stderr.write(('flood' + 'x' * 55 + '\\n') * 1000)\n"
		       "print('{\"id\":\"S0\",\"replies\":[]}', flush=True)\n"
		       "sys.stdin.read()\n");
	wait_until_up(c);
	run(c, x);
	assert_states(x, "A");
	free_requests(x);
	supervisor_stop(supervisor);
	supervisor = NULL;
	kept = logged_times("): floodxxx");
	lines = left_out(&bytes);
	ck_assert_uint_ge(kept, 5);
	ck_assert_uint_eq(kept + lines, LINES);
	ck_assert_uint_eq(bytes, lines * EACH);
	if (!SANITIZED)
		ck_assert_int_lt(memory_peak_kib() - before, 8 * 1024);
}
END_TEST

/* ... in one line. */
START_TEST(a_line_without_end_on_stderr)
{
	struct exchange *x = make_requests(1);
	long before = memory_peak_kib();
	struct child *c = add_python("import sys, os\n"
				     "sys.stdin.readline()\n"
				     "for i in range(100): sys.stderr.buffer.write(b'x' * 1000000)\n"
				     "sys.stderr.flush()\n"
				     "print('{\"id\":\"S0\",\"replies\":[]}', flush=True)\n"
				     "sys.stdin.read()\n");
	uint64_t bytes;

	wait_until_up(c);
	run(c, x);
	assert_states(x, "A");
	free_requests(x);
	supervisor_stop(supervisor);
	supervisor = NULL;
	ck_assert_uint_eq(left_out(&bytes), 0);
	ck_assert_uint_eq(bytes, 100000000 - 1900);
	ck_assert_uint_eq(logged_times("): xxx"), 1);
	if (!SANITIZED)
		ck_assert_int_lt(memory_peak_kib() - before, 8 * 1024);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("child_limits");
	TCase *t = tcase_create("limits");

	tcase_add_checked_fixture(t, rig_start, rig_stop);
	tcase_set_timeout(t, 240);
	tcase_add_test(t, a_line_may_be_so_long);
	tcase_add_test(t, a_line_without_end);
	tcase_add_test(t, what_nobody_reads_holds_up_nobody);
	tcase_add_test(t, big_requests_and_answers);
	tcase_add_test(t, a_process_that_never_reads);
	tcase_add_test(t, a_process_that_reads_a_little);
	tcase_add_test(t, stderr_goes_to_the_log);
	tcase_add_test(t, long_lines_of_stderr_are_cut);
	tcase_add_test(t, a_flood_of_stderr);
	tcase_add_test(t, a_line_without_end_on_stderr);
	suite_add_tcase(s, t);
	return run_suite(s);
}
