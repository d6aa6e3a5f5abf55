/* What is exchanged with real processes, and what becomes of requests when they fail. */
#include "child_support.h"

#include <pthread.h>
#include <signal.h>
#include <unistd.h>

#include "base/event.h"
#include "handle/slot.h"

START_TEST(answers_come_in_any_order)
{
	struct child *c = add_python(
		"import sys, json\n"
		"rows = [json.loads(sys.stdin.readline()) for i in range(7)]\n"
		"for r in reversed(rows):\n"
		"    assert r['v'] == 1 and r['tag'] == 'dm:plan' and r['source'] == 'ad_strands', r\n"
		"    assert r['deadline_ms'] == 120000, r\n"
		"    print('{\"id\":\"%s\", \"attempt\":%d, \"replies\":[ 9223372036854775807, {}, \"%s\"]}' %\n"
		"          (r['strand']['id'], r['attempt'], r['strand']['id']))\n"
		"    sys.stdout.flush()\n"
		"sys.stdin.read()\n");
	struct exchange *x = make_requests(7);

	x->requests[3].attempt = 5;
	wait_until_up(c);
	run(c, x);
	assert_states(x, "AAAAAAA");
	for (size_t i = 0; i < x->n; i++) {
		char expected[64];

		snprintf(expected, sizeof(expected), "[ 9223372036854775807, {}, \"S%zu\"]", i);
		ck_assert_str_eq(x->requests[i].text, expected);
		ck_assert_uint_eq(x->requests[i].text_len, strlen(expected));
		ck_assert_uint_eq(x->requests[i].n_replies, 3);
	}
	free_requests(x);
}
END_TEST

/* It reads as far as it can before each answer: so many are there, and never more. */
START_TEST(so_many_are_in_flight)
{
	struct child *c;
	struct exchange *x = make_requests(40);
	unsigned three = 0;

	policy.in_flight = 3;
	c = add_python(
		"import os, json, select\n"
		"out, left, buf = [], 40, b''\n"
		"while left:\n"
		"    while len(out) < min(3, left) or select.select([0], [], [], 0.002)[0]:\n"
		"        buf += os.read(0, 65536)\n"
		"        *lines, buf = buf.split(b'\\n')\n"
		"        out += [json.loads(line)['strand']['id'] for line in lines]\n"
		"    print(json.dumps({'id': out.pop(len(out) // 2), 'replies': [len(out) + 1]}), flush=True)\n"
		"    left -= 1\n"
		"os.read(0, 1)\n");
	wait_until_up(c);
	run(c, x);
	for (size_t i = 0; i < x->n; i++) {
		ck_assert_int_eq(x->requests[i].state, REQUEST_ANSWERED);
		ck_assert_msg(strchr("123", x->requests[i].text[1]) != NULL, "%s in flight", x->requests[i].text);
		three += x->requests[i].text[1] == '3';
	}
	ck_assert_uint_eq(three, 38);
	free_requests(x);
}
END_TEST

/* In front, between others, and so that it shows only when the one before is answered. */
START_TEST(what_is_too_late_is_not_sent)
{
	struct exchange *x = make_requests(6);
	struct child *c;

	policy.in_flight = 1;
	c = add_shell("while read line; do id=${line#*\\\"id\\\":\\\"}; id=${id%%\\\"*}; "
		      "sleep 0.2; echo '{\"id\":\"'$id'\",\"replies\":[]}'; done");
	wait_until_up(c);
	x->requests[0].send_before = x->requests[2].send_before = x->requests[3].send_before = 1;
	x->requests[1].send_before = clock_after_ms(LONG_MS);
	x->requests[5].send_before = clock_after_ms(100);
	run(c, x);
	assert_states(x, "EAEEAE");
	free_requests(x);
	x = make_requests(1);
	x->requests[0].send_before = 1;
	run(c, x);
	assert_states(x, "E");
	free_requests(x);
	ask_pid(add_python(ECHO));
}
END_TEST

START_TEST(errors_are_told)
{
	struct child *c = add_python(
		"import sys\n"
		"print('{\"ready\":true}')\n"	/* nobody asked: no harm */
		"for more in ['\"error\":\"no such instrument\"', '\"error\":\"a\\\\nb\",\"retry\":true',\n"
		"             '\"error\":\"never\",\"retry\":false']:\n"
		"    id = sys.stdin.readline().split('\"id\":\"')[1].split('\"')[0]\n"
		"    print('{\"id\":\"%s\",%s}' % (id, more), flush=True)\n"
		"sys.stdin.read()\n");
	struct exchange *x = make_requests(3);

	wait_until_up(c);
	run(c, x);
	assert_states(x, "FFF");
	ck_assert_str_eq(x->requests[0].text, "no such instrument");
	ck_assert_str_eq(x->requests[1].text, "a\nb");
	ck_assert_str_eq(x->requests[2].text, "never");
	for (size_t i = 0; i < 3; i++) {
		ck_assert(!x->requests[i].refused);
		ck_assert_int_eq(x->requests[i].final, i == 2);
	}
	free_requests(x);
}
END_TEST

/* An answer that cannot be taken fails its strand; the process did nothing else wrong. */
START_TEST(bad_answers_fail_one_strand)
{
	struct exchange *x = make_requests(5);
	struct child *c;

	policy.max_replies = 3;
	c = add_python(
		"import sys\n"
		"out = sys.stdout.buffer\n"
		"for more in [b'\"replies\":{}', b'\"replies\":[1,2,3]', b'\"replies\":[1,2,3,4]',\n"
		"             b'\"replies\":[\"gr\\xfcn\"]', b'\"error\":\"x\",\"replies\":[]']:\n"
		"    id = sys.stdin.readline().split('\"id\":\"')[1].split('\"')[0]\n"
		"    out.write(b'{\"id\":\"%s\",%s}\\n' % (id.encode(), more))\n"
		"    out.flush()\n"
		"sys.stdin.read()\n");
	wait_until_up(c);
	run(c, x);
	assert_states(x, "FAFFF");
	ck_assert_str_eq(x->requests[0].text, "the process wrote an answer whose \"replies\" are no array");
	ck_assert_str_eq(x->requests[2].text, "the process wrote 4 replies: more than 3 are not taken");
	ck_assert_str_eq(x->requests[3].text, "the process wrote an answer that is not UTF-8");
	for (size_t i = 0; i < 5; i++)
		ck_assert_int_eq(x->requests[i].refused, i != 1);
	free_requests(x);
	x = make_requests(0);
	run(c, x);
	free_requests(x);
	ck_assert_uint_eq(logged_times("the next is started"), 0);
}
END_TEST

START_TEST(answers_that_nobody_waits_for_are_dropped)
{
	struct child *c = add_python(
		"import sys, json\n"
		"def say(id, attempt, reply):\n"
		"    print(json.dumps({'id': id, 'attempt': attempt, 'replies': [reply]}), flush=True)\n"
		"for line in sys.stdin:\n"
		"    r = json.loads(line)\n"
		"    id, n = r['strand']['id'], r['attempt']\n"
		"    say('S', n, 'no'), say(id + '0', n, 'no'), say(id, n + 1, 'no')\n"
		"    say(id, n, id)\n"
		"    say(id, n, 'twice')\n");
	struct exchange *x;

	wait_until_up(c);
	for (unsigned i = 0; i < 3; i++) {
		x = make_requests(2);
		x->requests[0].attempt = x->requests[1].attempt = 3 * (3 - i);
		run(c, x);
		assert_states(x, "AA");
		ck_assert_str_eq(x->requests[0].text, "[\"S0\"]");
		ck_assert_str_eq(x->requests[1].text, "[\"S1\"]");
		free_requests(x);
	}
	/* Those behind the very last answer are found by the next exchange. */
	ck_assert_uint_ge(logged_times("wrote an answer that nobody waits for: it is dropped"), 6 * 3);
}
END_TEST

START_TEST(a_crash_loses_what_was_read)
{
	struct exchange *x = make_requests(3);
	struct child *c;

	policy.in_flight = 1;
	c = add_python(
		"import sys\n"
		"sys.stdin.readline()\n"
		"print('{\"id\":\"S0\",\"replies\":[]}', flush=True)\n"
		"sys.stdin.readline()\n"
		"raise ValueError('no such thing')\n");
	wait_until_up(c);
	run(c, x);
	assert_states(x, "ALU");
	ck_assert_int_eq(x->lost.code, STRAND_ECONN);
	ck_assert_str_eq(x->lost.sqlstate, SQLSTATE_HANDLER_DIED);
	ck_assert_str_eq(x->lost.text, "the process exited with status 1: \"ValueError: no such thing\"");
	wait_for_log(" exited with status 1; the next is started in ");
	ck_assert_uint_eq(child_failed_starts(c), 0);
	/* Another one is there. */
	wait_until_up(c);
	free_requests(x);
}
END_TEST

START_TEST(a_signal_is_named)
{
	struct exchange *x = make_requests(1);
	struct child *c = add_shell("read line; kill -SEGV $$; sleep 100");

	wait_until_up(c);
	run(c, x);
	assert_states(x, "L");
	assert_has(x->lost.text, "the process was killed by signal 11 (SIGSEGV)");
	free_requests(x);
}
END_TEST

/* The shell reads byte by byte: of ten that are written it has read one. */
START_TEST(what_was_not_read_is_not_lost)
{
	struct exchange *x = make_requests(10);
	struct child *c = add_shell("read line; exit 9");

	wait_until_up(c);
	run(c, x);
	assert_states(x, "LUUUUUUUUU");
	ck_assert_str_eq(x->lost.text, "the process exited with status 9");
	free_requests(x);
}
END_TEST

/* It has left the group, and holds stdin: what is to be sent to another is not for it. */
START_TEST(what_is_sent_again_is_read_by_nobody)
{
	struct exchange *x = make_requests(10);
	char script[512], text[64] = "";
	struct child *c;
	FILE *f;

	snprintf(script, sizeof(script),
		 "import os\n"
		 "while os.read(0, 1) != b'\\n': pass\n"
		 "gone, say = os.pipe()\n"
		 "if os.fork(): os.close(say), os.read(gone, 1), os._exit(9)\n"
		 "os.setsid(), os.close(1), os.close(2), os.close(say)\n"
		 "import time; time.sleep(0.5)\n"
		 "data = os.read(0, 1 << 16)\n"
		 "with open('%s.tmp', 'w') as f: f.write('%%d bytes' %% len(data))\n"
		 "os.rename('%s.tmp', '%s')\n", flag_path(), flag_path(), flag_path());
	c = add_python(script);
	wait_until_up(c);
	run(c, x);
	assert_states(x, "LUUUUUUUUU");
	wait_for_flag();
	f = fopen(flag_path(), "re");
	ck_assert(fgets(text, sizeof(text), f) != NULL);
	fclose(f);
	ck_assert_str_eq(text, "0 bytes");
	free_requests(x);
}
END_TEST

/* What was written before it died counts, to the last whole line. */
START_TEST(half_a_line_and_death)
{
	struct exchange *x = make_requests(3);
	struct child *c = add_shell(
		"read line; echo '{\"id\":\"S0\",\"replies\":[]}'; read line; "
		"printf '{\"id\":\"S1\",\"replies\":[],\"error\":null}\\n{\"id\":\"S2\",'; read line; exit 0");

	wait_until_up(c);
	run(c, x);
	assert_states(x, "AAL");
	ck_assert_str_eq(x->lost.text, "the process exited with status 0");
	free_requests(x);
}
END_TEST

/* Its stdout is open still: a child of its own has it. */
START_TEST(a_death_is_noticed_though_stdout_is_open)
{
	struct exchange *x = make_requests(2);
	struct child *c;

	policy.grace_ms = 200;
	c = add_shell("read line; echo '{\"id\":\"S0\",\"replies\":[]}'; read line; "
		      "sh -c 'trap \"\" TERM; while :; do sleep 1; done' & exit 4");
	wait_until_up(c);
	run(c, x);
	assert_states(x, "AL");
	ck_assert_str_eq(x->lost.text, "the process exited with status 4");
	free_requests(x);
}
END_TEST

START_TEST(garbage_is_quoted)
{
	struct exchange *x = make_requests(2);
	struct child *c = add_shell("read line; echo '{\"id\":\"S0\",\"replies\":[]}'; read line; "
				    "echo 'got it: \"S1\"'; read line");

	wait_until_up(c);
	run(c, x);
	assert_states(x, "AL");
	ck_assert_int_eq(x->lost.code, STRAND_EPROTO);
	ck_assert_str_eq(x->lost.sqlstate, SQLSTATE_HANDLER_GARBAGE);
	ck_assert_str_eq(x->lost.text, "the process wrote a line that is not JSON: \"got it: \"S1\"\"");
	wait_for_log("wrote a line that is not JSON");
	free_requests(x);
}
END_TEST

/* Found before anything is sent: nothing is lost. */
START_TEST(garbage_between_exchanges)
{
	struct exchange *x = make_requests(2);
	struct child *c;
	char script[256];

	policy.grace_ms = 5000;
	snprintf(script, sizeof(script), "echo 'I am here'; : >%s; read line", flag_path());
	c = add_shell(script);
	wait_until_up(c);
	wait_for_flag();
	run(c, x);
	assert_states(x, "UU");
	assert_has(wait_for_failure(c), "the process wrote a line that is not JSON: \"I am here\" before it had read");
	free_requests(x);
}
END_TEST

/* Hangs, and so does a child of its own that ignores SIGTERM: none is left. */
START_TEST(a_hang_ends_the_whole_group)
{
	struct exchange *x = make_requests(2);
	int leader = 0, grandchild = 0;
	char script[1024];
	struct child *c;
	FILE *f;

	policy.says_ready = true;
	policy.timeout_ms = 3000;
	policy.grace_ms = 300;
	policy.in_flight = 1;
	snprintf(script, sizeof(script),
		 "import sys, os, subprocess, signal, time\n"
		 "signal.signal(signal.SIGTERM, lambda *a: print('TERM', file=sys.stderr, flush=True))\n"
		 "p = subprocess.Popen(['sh', '-c', 'trap \"\" TERM; echo; while :; do sleep 1; done'], stdout=-1)\n"
		 "p.stdout.readline()\n"
		 "open('%s', 'w').write('%%d %%d' %% (os.getpid(), p.pid))\n"
		 "print('{\"ready\":true}', flush=True)\n"
		 "sys.stdin.readline()\n"
		 "while True: time.sleep(1)\n", flag_path());
	c = add_python(script);
	wait_until_up(c);
	f = fopen(flag_path(), "re");
	ck_assert_ptr_nonnull(f);
	ck_assert_int_eq(fscanf(f, "%d %d", &leader, &grandchild), 2);
	fclose(f);
	ck_assert(is_alive(leader) && is_alive(grandchild));
	run(c, x);
	assert_states(x, "LU");
	ck_assert_int_eq(x->lost.code, STRAND_ETIMEOUT);
	ck_assert_str_eq(x->lost.sqlstate, SQLSTATE_HANDLER_SILENT);
	ck_assert_str_eq(x->lost.text, "the process did not answer within 3 s");
	wait_until_dead(leader);
	wait_until_dead(grandchild);
	wait_for_log(": TERM");
	free_requests(x);
}
END_TEST

/* The command may be a shell's child: SIGTERM and the grace are for it, too. */
START_TEST(the_group_has_its_grace)
{
	struct exchange *x = make_requests(1);
	struct child *c;
	char script[512];

	snprintf(script, sizeof(script), "sh -c 'trap \"sleep 0.3; : >%s; exit\" TERM; echo >&2 here; "
		 "while :; do sleep 0.1; done' & read line; echo garbage; wait", flag_path());
	c = add_shell(script);
	wait_for_log("here");
	wait_until_up(c);
	run(c, x);
	assert_states(x, "L");
	ck_assert_int_eq(access(flag_path(), F_OK), 0);
	free_requests(x);
}
END_TEST

static void set_held(struct child *c, bool held)
{
	pthread_mutex_lock(&c->s->lock);
	c->held = held;
	pthread_mutex_unlock(&c->s->lock);
	event_signal(&c->s->work);
}

static bool has_gone(struct child *c)
{
	bool gone;

	pthread_mutex_lock(&c->s->lock);
	gone = c->gone;
	pthread_mutex_unlock(&c->s->lock);
	return gone;
}

/* A worker that is slow to notice still holds it, and then orders its end: its number
 * may be another group's by then (slot.c asserts that it is not used). */
START_TEST(a_group_that_is_gone_is_not_signalled)
{
	int64_t end = clock_after_ms(LONG_MS);
	struct child *c;

	policy.grace_ms = 10;
	c = add_shell("read line; exit 3");
	wait_until_up(c);
	set_held(c, true);
	ck_assert_int_eq(write(c->process.in, "x\n", 2), 2);
	while (!has_gone(c) && clock_now() < end)
		usleep(1000);
	ck_assert(has_gone(c));
	slot_order(c, ORDER_TERM, "");
	event_signal(&c->s->work);
	usleep(300000);		/* for what must not happen */
	ck_assert(has_gone(c));
	set_held(c, false);
	wait_for_log("exited with status 3 before it had read a request; the next is started");
	ck_assert_int_eq(child_wait(c, end, -1, NULL), STRAND_EINVAL);
	wait_until_up(c);
}
END_TEST

/* Told to stop: what is out is waited for, and the rest is not sent. */
START_TEST(stop_sends_nothing_more)
{
	struct exchange *x = make_requests(4);
	struct child *c;
	struct event stop;
	struct err e;

	policy.in_flight = 2;
	c = add_python(ECHO);
	wait_until_up(c);
	ck_assert_int_eq(event_init(&stop), 0);
	event_signal(&stop);
	ck_assert_int_eq(child_exchange(c, x, stop.fd, -1, &e), 0);
	assert_states(x, "AAUU");
	/* The process is there and answers. */
	exchange_release(x);
	run(c, x);
	assert_states(x, "AAAA");
	free_requests(x);
	event_release(&stop);
	ck_assert_uint_eq(logged_times("started"), 0);
}
END_TEST

static void *let_it_read(void *arg)
{
	FILE *f;

	sleep(1);
	f = fopen(flag_path(), "we");
	if (f)
		fclose(f);
	return arg;
}

/* What is made but not begun to be written is taken back, what is half written is
 * finished.  Its pipe takes 4096 bytes, and for a second it reads nothing. */
START_TEST(stop_takes_back_what_is_not_written)
{
	struct exchange *x = make_requests(4);
	pthread_t thread;
	char script[1024];
	struct child *c;
	struct event stop;
	struct err e;

	for (size_t i = 0; i < 4; i++)
		set_row(x, i, big_row(i, 3000));
	policy.in_flight = 4;
	policy.says_ready = true;
	snprintf(script, sizeof(script),
		 "import fcntl, os, time\n"
		 "fcntl.fcntl(0, 1031, 4096)\n"
		 "print('{\"ready\":true}', flush=True)\n"
		 "while not os.path.exists('%s'): time.sleep(0.01)\n%s", flag_path(), ECHO);
	c = add_python(script);
	wait_until_up(c);
	ck_assert_int_eq(event_init(&stop), 0);
	event_signal(&stop);
	ck_assert_int_eq(pthread_create(&thread, NULL, let_it_read, NULL), 0);
	ck_assert_int_eq(child_exchange(c, x, stop.fd, -1, &e), 0);
	pthread_join(thread, NULL);
	assert_states(x, "AAUU");
	ck_assert_uint_gt(x->requests[1].text_len, 3000);
	/* What is sent after that begins where a line begins. */
	exchange_release(x);
	run(c, x);
	assert_states(x, "AAAA");
	free_requests(x);
	event_release(&stop);
}
END_TEST

static struct event now;

static void *signal_now(void *arg)
{
	(void)arg;
	wait_for_flag();
	event_signal(&now);
	return NULL;
}

static void exchange_until_now(struct child *c, struct exchange *x)
{
	pthread_t thread;
	struct err e;

	ck_assert_int_eq(event_init(&now), 0);
	ck_assert_int_eq(pthread_create(&thread, NULL, signal_now, NULL), 0);
	ck_assert_int_eq(child_exchange(c, x, -1, now.fd, &e), 0);
	pthread_join(thread, NULL);
	event_release(&now);
}

START_TEST(now_kills)
{
	struct exchange *x = make_requests(2);
	struct child *c;
	char script[256];

	snprintf(script, sizeof(script), "trap '' TERM; read line; : >%s; while :; do sleep 1; done", flag_path());
	c = add_shell(script);
	wait_until_up(c);
	exchange_until_now(c, x);
	assert_states(x, "LU");
	ck_assert_int_eq(x->lost.code, STRAND_ESTOPPED);
	ck_assert_str_eq(x->lost.sqlstate, "");
	assert_has(x->lost.text, "strandd was told to leave at once");
	free_requests(x);
}
END_TEST

/* Also one that has its grace already. */
START_TEST(now_cuts_the_grace_short)
{
	struct exchange *x = make_requests(1);
	struct child *c;
	char script[256];

	snprintf(script, sizeof(script), "trap ': >%s' TERM; read line; echo garbage; while :; do sleep 1; done",
		 flag_path());
	c = add_shell(script);
	wait_until_up(c);
	exchange_until_now(c, x);
	assert_states(x, "L");
	ck_assert_str_eq(x->lost.sqlstate, SQLSTATE_HANDLER_GARBAGE);
	free_requests(x);
}
END_TEST

/* It has read enough and closes its stdin: what it owes comes, the rest goes to another. */
START_TEST(a_process_that_takes_no_more)
{
	struct exchange *x = make_requests(3);
	struct child *c;

	policy.in_flight = 1;
	policy.grace_ms = 5000;
	c = add_shell("read line; exec 0<&-; echo '{\"id\":\"S0\",\"replies\":[]}'; exec sleep 100");
	wait_until_up(c);
	run(c, x);
	assert_states(x, "AUU");
	wait_for_log("; the next is started in ");
	free_requests(x);
}
END_TEST

START_TEST(a_process_that_closes_its_stdout)
{
	struct exchange *x = make_requests(1);
	struct child *c = add_shell("read line; exec 1>&-; exec sleep 100");

	wait_until_up(c);
	run(c, x);
	assert_states(x, "L");
	ck_assert_str_eq(x->lost.text, "the process closed its standard output");
	ck_assert_str_eq(x->lost.sqlstate, SQLSTATE_HANDLER_DIED);
	free_requests(x);
}
END_TEST

START_TEST(many_batches)
{
	unsigned batches = SANITIZED ? 50 : 300;
	struct child *c;

	policy.in_flight = 100;
	c = add_python(ECHO);
	wait_until_up(c);
	for (unsigned i = 0; i < batches; i++) {
		struct exchange *x = make_requests(100);

		run(c, x);
		for (size_t k = 0; k < 100; k++) {
			char expected[32];

			ck_assert_int_eq(x->requests[k].state, REQUEST_ANSWERED);
			snprintf(expected, sizeof(expected), "{\"id\": \"S%zu\"}", k);
			assert_has(x->requests[k].text, expected);
		}
		free_requests(x);
	}
}
END_TEST

int main(void)
{
	Suite *s = suite_create("child");
	TCase *t = tcase_create("exchange");

	tcase_add_checked_fixture(t, rig_start, rig_stop);
	tcase_set_timeout(t, 240);
	tcase_add_test(t, answers_come_in_any_order);
	tcase_add_test(t, so_many_are_in_flight);
	tcase_add_test(t, what_is_too_late_is_not_sent);
	tcase_add_test(t, errors_are_told);
	tcase_add_test(t, bad_answers_fail_one_strand);
	tcase_add_test(t, answers_that_nobody_waits_for_are_dropped);
	tcase_add_test(t, a_crash_loses_what_was_read);
	tcase_add_test(t, a_signal_is_named);
	tcase_add_test(t, what_was_not_read_is_not_lost);
	tcase_add_test(t, what_is_sent_again_is_read_by_nobody);
	tcase_add_test(t, half_a_line_and_death);
	tcase_add_test(t, a_death_is_noticed_though_stdout_is_open);
	tcase_add_test(t, garbage_is_quoted);
	tcase_add_test(t, garbage_between_exchanges);
	tcase_add_test(t, a_hang_ends_the_whole_group);
	tcase_add_test(t, the_group_has_its_grace);
	tcase_add_test(t, a_group_that_is_gone_is_not_signalled);
	tcase_add_test(t, stop_sends_nothing_more);
	tcase_add_test(t, stop_takes_back_what_is_not_written);
	tcase_add_test(t, now_kills);
	tcase_add_test(t, now_cuts_the_grace_short);
	tcase_add_test(t, a_process_that_takes_no_more);
	tcase_add_test(t, a_process_that_closes_its_stdout);
	tcase_add_test(t, many_batches);
	suite_add_tcase(s, t);
	return run_suite(s);
}
