#include "scan/snapshot.h"

#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static struct snapshot parsed(const char *text)
{
	struct snapshot s;

	ck_assert_msg(snapshot_parse(&s, text) == 0, "\"%s\" not understood", text);
	return s;
}

START_TEST(without_a_list)
{
	struct snapshot s = parsed("700:700:");

	ck_assert_uint_eq(s.xmin, 700);
	ck_assert_uint_eq(s.xmax, 700);
	ck_assert_uint_eq(s.n, 0);
	ck_assert(!snapshot_in_progress(&s, 700));
	snapshot_release(&s);
}
END_TEST

START_TEST(with_a_list)
{
	struct snapshot s = parsed("10:20:10,14,19");

	ck_assert_uint_eq(s.n, 3);
	for (uint64_t xid = 0; xid < 30; xid++)
		ck_assert_int_eq(snapshot_in_progress(&s, xid), xid == 10 || xid == 14 || xid == 19);
	snapshot_release(&s);
}
END_TEST

START_TEST(one_in_progress)
{
	struct snapshot s = parsed("3:4:3");

	ck_assert(snapshot_in_progress(&s, 3));
	ck_assert(!snapshot_in_progress(&s, 2));
	ck_assert(!snapshot_in_progress(&s, 4));
	snapshot_release(&s);
}
END_TEST

/* Beyond 32 bits, where an xid would have wrapped around. */
START_TEST(large_numbers)
{
	struct snapshot s = parsed("18446744073709551600:18446744073709551615:18446744073709551600,18446744073709551614");

	ck_assert(s.xmax == UINT64_MAX);
	ck_assert(snapshot_in_progress(&s, UINT64_MAX - 1));
	ck_assert(!snapshot_in_progress(&s, UINT64_MAX));
	snapshot_release(&s);
}
END_TEST

/* Each position of a long list is found, and nothing between them. */
START_TEST(long_list)
{
	enum { N = 5000 };
	char *text = malloc(N * 8 + 64), *end = text;
	struct snapshot s;

	end += sprintf(end, "2:%d:", 2 * N + 1);
	for (int i = 1; i <= N; i++)
		end += sprintf(end, "%s%d", i > 1 ? "," : "", 2 * i);
	s = parsed(text);
	ck_assert_uint_eq(s.n, N);
	for (uint64_t xid = 0; xid < 2 * N + 4; xid++)
		ck_assert_int_eq(snapshot_in_progress(&s, xid), xid >= 2 && xid <= 2 * N && xid % 2 == 0);
	snapshot_release(&s);
	free(text);
}
END_TEST

static const char *const wrong[] = {
	"", ":", "::", "1", "1:", "1:2", "a:2:", "1:b:", "1:2:c", " 1:2:", "1: 2:", "1:2: 1", "-1:2:", "1:-2:", "+1:2:",
	"5:4:",			/* the wrong way round */
	"10:20:12,",		/* a comma that leads nowhere */
	"10:20:,12", "10:20:12,,14", "10:20:12;14", "10:20:12 ", "10:20:12x",
	"10:20:14,12",		/* not ascending: the search would miss one */
	"10:20:12,12",
	"10:20:9", "10:20:20",	/* outside of its bounds */
	"1:18446744073709551616:",	/* does not fit */
	"0x1:2:", "1:2::", "1.0:2:",
};

START_TEST(refused)
{
	struct snapshot s = { .xmin = 4711 };

	ck_assert_msg(snapshot_parse(&s, wrong[_i]) == STRAND_EINVAL, "\"%s\" was taken", wrong[_i]);
	ck_assert_msg(s.xmin == 4711 && !s.xip, "\"%s\" left traces", wrong[_i]);
}
END_TEST

START_TEST(released_twice)
{
	struct snapshot s = parsed("1:3:1,2");

	snapshot_release(&s);
	snapshot_release(&s);
	ck_assert_uint_eq(s.n, 0);
	ck_assert(!snapshot_in_progress(&s, 1));
}
END_TEST

int main(void)
{
	Suite *s = suite_create("snapshot");
	TCase *t = tcase_create("parse");
	SRunner *sr;
	int failed;

	tcase_add_test(t, without_a_list);
	tcase_add_test(t, with_a_list);
	tcase_add_test(t, one_in_progress);
	tcase_add_test(t, large_numbers);
	tcase_add_test(t, long_list);
	tcase_add_loop_test(t, refused, 0, (int)(sizeof(wrong) / sizeof(wrong[0])));
	tcase_add_test(t, released_twice);
	suite_add_tcase(s, t);
	sr = srunner_create(s);
	srunner_run_all(sr, CK_ENV);
	failed = srunner_ntests_failed(sr);
	srunner_free(sr);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
