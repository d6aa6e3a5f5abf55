#include "work/outcome.h"

#include <check.h>
#include <stdlib.h>
#include <string.h>

static enum fault judge(enum stage stage, int code, const char *sqlstate, const char *relation)
{
	struct err e = { .code = code };

	strcpy(e.sqlstate, sqlstate);
	strcpy(e.relation, relation);
	return outcome_classify(stage, &e, "dm_receipts");
}

/* These mean the same whichever statement failed. */
static const struct {
	const char *sqlstate;
	enum fault fault;
} same_everywhere[] = {
	{ "08000", FAULT_CONNECTION },
	{ "08006", FAULT_CONNECTION },
	{ "57P01", FAULT_CONNECTION },	/* an administrator's shutdown */
	{ "57P02", FAULT_CONNECTION },	/* a crash */
	{ "57P03", FAULT_CONNECTION },	/* starting up */
	{ "57P05", FAULT_CONNECTION },	/* idle session */
	{ "25P03", FAULT_CONNECTION },	/* idle in transaction */
	{ "25006", FAULT_CONNECTION },	/* no primary */
	{ "40001", FAULT_TRANSACTION },
	{ "40P01", FAULT_TRANSACTION },
	{ "53100", FAULT_RESOURCES },	/* disk full */
	{ "53200", FAULT_RESOURCES },
	{ "53300", FAULT_RESOURCES },
	{ "55P03", FAULT_RESOURCES },	/* lock not available */
	{ "26000", FAULT_RESOURCES },	/* our statements were deallocated */
	{ "42883", FAULT_CONFIGURATION },
	{ "42P01", FAULT_CONFIGURATION },
	{ "42501", FAULT_CONFIGURATION },
	{ "42703", FAULT_CONFIGURATION },
	{ "3F000", FAULT_CONFIGURATION },
	{ "0A000", FAULT_CONFIGURATION },	/* cached plan must not change result type */
};

START_TEST(the_same_at_every_stage)
{
	for (int stage = 0; stage < STAGE_COUNT; stage++)
		ck_assert_msg(judge((enum stage)stage, STRAND_ESQL, same_everywhere[_i].sqlstate, "") ==
			      same_everywhere[_i].fault, "%s at stage %d", same_everywhere[_i].sqlstate, stage);
}
END_TEST

/* What is no SQL error never is a strand's fault. */
START_TEST(no_sql_error_is_the_connection)
{
	static const int codes[] = { STRAND_ECONN, STRAND_ETIMEOUT, STRAND_ESTOPPED, STRAND_ENOMEM };

	for (int stage = 0; stage < STAGE_COUNT; stage++) {
		for (size_t i = 0; i < sizeof(codes) / sizeof(codes[0]); i++)
			ck_assert_int_eq(judge((enum stage)stage, codes[i], "", ""), FAULT_CONNECTION);
		ck_assert_int_eq(judge((enum stage)stage, STRAND_ESQL, "", ""), FAULT_CONNECTION);
		/* as when a FATAL comes with the SQLSTATE of something else */
		ck_assert_int_eq(judge((enum stage)stage, STRAND_ECONN, "P0001", ""), FAULT_CONNECTION);
	}
}
END_TEST

static const char *const handlers_own[] = {
	"P0001", "P0004", "22012", "22P02", "23502", "23514", "23503", "54001", "57014", "2D000", "SR001", "SR002",
	"TR123", "XX000", "25001",
};

START_TEST(handlers_own_in_the_handler_and_at_commit)
{
	ck_assert_int_eq(judge(STAGE_HANDLE, STRAND_ESQL, handlers_own[_i], ""), FAULT_HANDLER);
	ck_assert_int_eq(judge(STAGE_COMMIT, STRAND_ESQL, handlers_own[_i], ""), FAULT_HANDLER);
}
END_TEST

/* An error of our own statements is never charged to a strand. */
START_TEST(never_the_handlers_before_it_was_called)
{
	ck_assert_int_eq(judge(STAGE_CLAIM, STRAND_ESQL, handlers_own[_i], ""), FAULT_RESOURCES);
	ck_assert_int_eq(judge(STAGE_PREPARE, STRAND_ESQL, handlers_own[_i], ""), FAULT_CONFIGURATION);
}
END_TEST

START_TEST(second_receipt_is_a_lost_race)
{
	ck_assert_int_eq(judge(STAGE_HANDLE, STRAND_ESQL, "23505", "dm_receipts"), FAULT_TRANSACTION);
	ck_assert_int_eq(judge(STAGE_COMMIT, STRAND_ESQL, "23505", "dm_receipts"), FAULT_TRANSACTION);
	ck_assert_int_eq(judge(STAGE_HANDLE, STRAND_ESQL, "23505", "dm_strands"), FAULT_HANDLER);
	ck_assert_int_eq(judge(STAGE_HANDLE, STRAND_ESQL, "23505", ""), FAULT_HANDLER);
	ck_assert_int_eq(judge(STAGE_HANDLE, STRAND_ESQL, "23503", "dm_receipts"), FAULT_HANDLER);
	ck_assert_int_eq(judge(STAGE_HANDLE, STRAND_ESQL, "23505", "dm_receipts_2"), FAULT_HANDLER);
}
END_TEST

/* The NOTIFYs of a transaction find no room. */
START_TEST(a_full_notify_queue_is_nobodys_own)
{
	ck_assert_int_eq(judge(STAGE_COMMIT, STRAND_ESQL, "54000", ""), FAULT_RESOURCES);
	ck_assert_int_eq(judge(STAGE_HANDLE, STRAND_ESQL, "54000", ""), FAULT_HANDLER);
}
END_TEST

/* A prefix must not catch its neighbours. */
START_TEST(neighbours_of_the_prefixes)
{
	ck_assert_int_eq(judge(STAGE_HANDLE, STRAND_ESQL, "57014", ""), FAULT_HANDLER);	/* not 57P0x */
	ck_assert_int_eq(judge(STAGE_HANDLE, STRAND_ESQL, "55000", ""), FAULT_HANDLER);	/* not 55P03 */
	ck_assert_int_eq(judge(STAGE_HANDLE, STRAND_ESQL, "25000", ""), FAULT_HANDLER);	/* not 25006 */
	ck_assert_int_eq(judge(STAGE_HANDLE, STRAND_ESQL, "0A001", ""), FAULT_HANDLER);
	ck_assert_int_eq(judge(STAGE_HANDLE, STRAND_ESQL, "3F001", ""), FAULT_HANDLER);
}
END_TEST

START_TEST(every_fault_has_a_name)
{
	for (int i = 0; i < FAULT_COUNT; i++) {
		ck_assert_ptr_nonnull(outcome_name((enum fault)i));
		for (int k = 0; k < i; k++)
			ck_assert_str_ne(outcome_name((enum fault)i), outcome_name((enum fault)k));
	}
}
END_TEST

#define COUNT(a) ((int)(sizeof(a) / sizeof((a)[0])))

int main(void)
{
	Suite *s = suite_create("outcome");
	TCase *t = tcase_create("classify");
	SRunner *sr;
	int failed;

	tcase_add_loop_test(t, the_same_at_every_stage, 0, COUNT(same_everywhere));
	tcase_add_test(t, no_sql_error_is_the_connection);
	tcase_add_loop_test(t, handlers_own_in_the_handler_and_at_commit, 0, COUNT(handlers_own));
	tcase_add_loop_test(t, never_the_handlers_before_it_was_called, 0, COUNT(handlers_own));
	tcase_add_test(t, second_receipt_is_a_lost_race);
	tcase_add_test(t, a_full_notify_queue_is_nobodys_own);
	tcase_add_test(t, neighbours_of_the_prefixes);
	tcase_add_test(t, every_fault_has_a_name);
	suite_add_tcase(s, t);
	sr = srunner_create(s);
	srunner_run_all(sr, CK_ENV);
	failed = srunner_ntests_failed(sr);
	srunner_free(sr);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
