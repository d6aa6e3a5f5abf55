/* What a listener remembers: ids that it has seen, and those that it has yet to read. */
#include "libstrand/window.h"

#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "pg/hosts.h"
#include "libstrand/pending.h"

START_TEST(once_each)
{
	struct window w;

	ck_assert_int_eq(window_init(&w, 16, 1000), 0);
	ck_assert_int_eq(window_add(&w, 0, "AD_1"), 1);
	ck_assert_int_eq(window_add(&w, 0, "AD_1"), 0);
	/* for each route */
	ck_assert_int_eq(window_add(&w, 1, "AD_1"), 1);
	ck_assert_int_eq(window_add(&w, 0, ""), 1);
	ck_assert_int_eq(window_add(&w, 0, ""), 0);
	window_forget(&w, 0, "AD_1");
	window_forget(&w, 0, "AD_1");
	window_forget(&w, 7, "never");
	ck_assert_int_eq(window_add(&w, 0, "AD_1"), 1);
	ck_assert_int_eq(window_add(&w, 0, "AD_1"), 0);
	ck_assert_int_eq(window_add(&w, 1, "AD_1"), 0);
	window_release(&w);
}
END_TEST

START_TEST(the_oldest_go)
{
	struct window w;
	char id[16];

	ck_assert_int_eq(window_init(&w, 16, 1000), 0);
	for (int i = 0; i < 100; i++) {
		snprintf(id, sizeof(id), "AD_%d", i);
		ck_assert_int_eq(window_add(&w, 0, id), 1);
		if (i % 3 == 0)
			window_forget(&w, 0, id);
	}
	ck_assert_uint_eq(w.n, 16);
	ck_assert_int_eq(window_add(&w, 0, "AD_98"), 0);
	ck_assert_int_eq(window_add(&w, 0, "AD_85"), 0);
	ck_assert_int_eq(window_add(&w, 0, "AD_83"), 1);
	window_release(&w);
	window_release(&w);
}
END_TEST

START_TEST(bytes_are_bounded)
{
	struct window w;
	char id[600];

	ck_assert_int_eq(window_init(&w, 16, 1000), 0);
	memset(id, 'x', sizeof(id));
	id[599] = '\0';
	ck_assert_int_eq(window_add(&w, 0, id), 1);
	ck_assert_int_eq(window_add(&w, 1, id), 1);
	ck_assert_uint_eq(w.n, 1);
	ck_assert_int_eq(window_add(&w, 1, id), 0);
	/* one is kept, whatever its length */
	window_release(&w);
	ck_assert_int_eq(window_init(&w, 16, 10), 0);
	ck_assert_int_eq(window_add(&w, 0, id), 1);
	ck_assert_int_eq(window_add(&w, 0, id), 0);
	window_release(&w);
}
END_TEST

static void check_taken(struct pending *p, bool urgent, const char *id)
{
	struct pending_entry *entry = pending_take(p, urgent);

	ck_assert_str_eq(entry->id, id);
	free(entry);
}

START_TEST(two_lines)
{
	struct pending p;

	pending_init(&p);
	ck_assert_ptr_null(pending_take(&p, false));
	ck_assert_int_eq(pending_add(&p, 0, "a", false), 0);
	ck_assert_int_eq(pending_add(&p, 0, "b", true), 0);
	ck_assert_int_eq(pending_add(&p, 1, "", false), 0);
	ck_assert_uint_eq(p.n, 3);
	check_taken(&p, true, "b");
	check_taken(&p, false, "a");
	ck_assert_int_eq(pending_add(&p, 1, "d", false), 0);
	check_taken(&p, false, "");
	ck_assert_uint_eq(p.bytes, 1);
	ck_assert_int_eq(pending_add(&p, 0, "e", true), 0);
	pending_release(&p);
	ck_assert_uint_eq(p.n, 0);
}
END_TEST

START_TEST(hosts_in_turn)
{
	char out[8];

	ck_assert_ptr_null(hosts_element(NULL, 0, out, sizeof(out)));
	ck_assert_str_eq(hosts_element("one", 3, out, sizeof(out)), "one");
	ck_assert_str_eq(hosts_element("a,bb,c", 0, out, sizeof(out)), "a");
	ck_assert_str_eq(hosts_element("a,bb,c", 1, out, sizeof(out)), "bb");
	ck_assert_str_eq(hosts_element("a,bb,c", 2, out, sizeof(out)), "c");
	ck_assert_str_eq(hosts_element("123456789,b", 0, out, sizeof(out)), "1234567");
}
END_TEST

int main(void)
{
	Suite *s = suite_create("window");
	TCase *t = tcase_create("window");
	SRunner *sr;
	int failed;

	tcase_add_test(t, once_each);
	tcase_add_test(t, the_oldest_go);
	tcase_add_test(t, bytes_are_bounded);
	tcase_add_test(t, two_lines);
	tcase_add_test(t, hosts_in_turn);
	suite_add_tcase(s, t);
	sr = srunner_create(s);
	srunner_run_all(sr, CK_ENV);
	failed = srunner_ntests_failed(sr);
	srunner_free(sr);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
