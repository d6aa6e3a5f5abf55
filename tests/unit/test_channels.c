#include "listen/channels.h"

#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* A table of routes with these channels; the strings are borrowed. */
static struct route_table table_of(struct route *routes, size_t n, const char *const *channels)
{
	memset(routes, 0, n * sizeof(*routes));
	for (size_t i = 0; i < n; i++) {
		routes[i].index = (unsigned)i;
		routes[i].channel = (char *)channels[i];
	}
	return (struct route_table){ .n = n, .routes = routes };
}

static void expect(const struct channels *ch, const char *name, bool high, unsigned route)
{
	const struct channel *found = channels_find(ch, name);

	ck_assert_msg(found != NULL, "%s not found", name);
	ck_assert_str_eq(found->name, name);
	ck_assert_int_eq(found->high, high);
	ck_assert_uint_eq(found->route, route);
}

START_TEST(each_route_has_two)
{
	static const char *const names[] = { "dm_evaluate_plan", "alpha_decision_feedback", "trader_execute_plan" };
	struct route routes[3];
	struct route_table t = table_of(routes, 3, names);
	struct channels ch;

	ck_assert_int_eq(channels_init(&ch, &t), 0);
	ck_assert_uint_eq(ch.n, 6);
	for (unsigned i = 0; i < 3; i++) {
		char high[64];
		expect(&ch, names[i], false, i);
		snprintf(high, sizeof(high), "%s:high", names[i]);
		expect(&ch, high, true, i);
	}
	channels_release(&ch);
}
END_TEST

START_TEST(unknown_names)
{
	static const char *const names[] = { "b_b", "d_d" };
	static const char *const unknown[] = { "", "a", "b", "b_", "b_b_", "b_b:", "b_b:hig", "b_b:high2", "c", "z", "B_B" };
	struct route routes[2];
	struct route_table t = table_of(routes, 2, names);
	struct channels ch;

	ck_assert_int_eq(channels_init(&ch, &t), 0);
	for (size_t i = 0; i < sizeof(unknown) / sizeof(unknown[0]); i++)
		ck_assert_msg(!channels_find(&ch, unknown[i]), "found \"%s\"", unknown[i]);
	channels_release(&ch);
}
END_TEST

/* One tag attached to several tables: a notification is for all of them, and
 * the first row found is the first of the run. */
START_TEST(one_channel_of_several_routes)
{
	static const char *const names[] = { "m_x", "a_a", "m_x", "z_z", "m_x" };
	struct route routes[5];
	struct route_table t = table_of(routes, 5, names);
	struct channels ch;
	const struct channel *row;
	unsigned seen = 0, n = 0;

	ck_assert_int_eq(channels_init(&ch, &t), 0);
	row = channels_find(&ch, "m_x");
	ck_assert_ptr_nonnull(row);
	ck_assert(row == ch.rows || strcmp(row[-1].name, "m_x"));
	for (; row < ch.rows + ch.n && !strcmp(row->name, "m_x"); row++, n++)
		seen |= 1u << row->route;
	ck_assert_uint_eq(n, 3);
	ck_assert_uint_eq(seen, 1u << 0 | 1u << 2 | 1u << 4);
	channels_release(&ch);
}
END_TEST

START_TEST(many)
{
	enum { N = 300 };
	static char text[N][16];
	const char *names[N];
	struct route *routes = calloc(N, sizeof(*routes));
	struct route_table t;
	struct channels ch;

	for (int i = 0; i < N; i++) {
		snprintf(text[i], sizeof(text[i]), "m_%d", (i * 7919) % 10007);
		names[i] = text[i];
	}
	t = table_of(routes, N, names);
	ck_assert_int_eq(channels_init(&ch, &t), 0);
	for (unsigned i = 0; i < N; i++)
		expect(&ch, names[i], false, i);
	channels_release(&ch);
	free(routes);
}
END_TEST

START_TEST(none)
{
	struct route_table t = { 0 };
	struct channels ch;

	ck_assert_int_eq(channels_init(&ch, &t), 0);
	ck_assert_uint_eq(ch.n, 0);
	ck_assert_ptr_null(channels_find(&ch, "dm_evaluate_plan"));
	channels_release(&ch);
	channels_release(&ch);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("channels");
	TCase *t = tcase_create("find");
	SRunner *sr;
	int failed;

	tcase_add_test(t, each_route_has_two);
	tcase_add_test(t, unknown_names);
	tcase_add_test(t, one_channel_of_several_routes);
	tcase_add_test(t, many);
	tcase_add_test(t, none);
	suite_add_tcase(s, t);
	sr = srunner_create(s);
	srunner_run_all(sr, CK_ENV);
	failed = srunner_ntests_failed(sr);
	srunner_free(sr);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
