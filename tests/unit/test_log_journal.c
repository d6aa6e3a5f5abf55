/* What the journal is sent.  libsystemd's socket has a fixed place, so here its last
 * step is ours: the test's sd_journal_sendv and connect are found before the
 * libraries'.  tests/integration/test_service_log.py puts a socket in that place. */
#include "base/log_journal.h"

#include <check.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/uio.h>

#define SD_JOURNAL_SUPPRESS_LOCATION
#include <systemd/sd-journal.h>

static bool answers;
static char sent[32][512];
static int n_sent, answer;

int connect(int fd, const struct sockaddr *to, socklen_t len)
{
	(void)fd;
	(void)to;
	(void)len;
	return answers ? 0 : -1;
}

int sd_journal_sendv(const struct iovec *iov, int n)
{
	n_sent = n;
	for (int i = 0; i < n; i++)
		snprintf(sent[i], sizeof(sent[i]), "%.*s", (int)iov[i].iov_len, (const char *)iov[i].iov_base);
	return answer;
}

static int send_one(const struct log_fields *fields, const char *message)
{
	struct log_record *r = log_record_new(LOG_LEVEL_ERROR, fields, message);
	int ret;

	ck_assert_ptr_nonnull(r);
	r->instance = 7;
	n_sent = 0;
	ret = log_journal_send(r);
	free(r);
	return ret;
}

static void assert_sent(const char *field)
{
	for (int i = 0; i < n_sent; i++)
		if (!strcmp(sent[i], field))
			return;
	ck_abort_msg("\"%s\" was not sent", field);
}

START_TEST(all_fields)
{
	answers = true;
	ck_assert_int_eq(send_one(&(struct log_fields){ .route = "dm:evaluate_plan", .source = "public.ad_strands",
							.strand = "AD\n1", .attempt = 2, .sqlstate = "P0001" },
				  "failed:\033[2J"), 0);
	ck_assert_int_eq(n_sent, 10);
	assert_sent("MESSAGE=failed:\\u001b[2J");
	assert_sent("PRIORITY=3");
	assert_sent("SYSLOG_IDENTIFIER=strandd");
	assert_sent("STRANDD_THREAD=main");
	assert_sent("STRANDD_ROUTE=dm:evaluate_plan");
	assert_sent("STRANDD_SOURCE=public.ad_strands");
	assert_sent("STRANDD_STRAND=AD\n1");
	assert_sent("STRANDD_ATTEMPT=2");
	assert_sent("STRANDD_SQLSTATE=P0001");
	assert_sent("STRANDD_INSTANCE=7");
}
END_TEST

START_TEST(no_empty_fields)
{
	answers = true;
	ck_assert_int_eq(send_one(NULL, "plain"), 0);
	ck_assert_int_eq(n_sent, 5);
	assert_sent("MESSAGE=plain");
}
END_TEST

START_TEST(no_answer)
{
	answers = false;
	ck_assert_int_eq(send_one(NULL, "plain"), STRAND_ECONN);
	ck_assert_int_eq(n_sent, 0);
	answers = true;
	answer = -111;
	ck_assert_int_eq(send_one(NULL, "plain"), STRAND_ECONN);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("log_journal");
	TCase *t = tcase_create("log_journal");
	SRunner *runner;
	int failed;

	tcase_add_test(t, all_fields);
	tcase_add_test(t, no_empty_fields);
	tcase_add_test(t, no_answer);
	suite_add_tcase(s, t);
	runner = srunner_create(s);
	srunner_run_all(runner, CK_ENV);
	failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
