#include "strandctl/known_bad.h"
#include "strandctl/lines.h"
#include "strandctl/row.h"
#include "strandctl/sql_embed.h"
#include "strandctl/steps.h"
#include "strandctl/strands.h"
#include "strandctl/tags.h"

#include <check.h>
#include <ctype.h>
#include <regex.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* --- steps */

START_TEST(steps_are_cut_at_their_titles)
{
	const char *cursor = "-- about the file\n-- step: one\nSELECT 1;\n\n-- step: two\nSELECT 'x'\n\\gexec\n";
	struct step s;

	ck_assert_int_eq(step_next(&s, &cursor), 1);
	ck_assert_str_eq(s.title, "one");
	ck_assert_str_eq(s.sql, "\nSELECT 1;\n\n");
	ck_assert(!s.gexec);
	step_release(&s);
	ck_assert_int_eq(step_next(&s, &cursor), 1);
	ck_assert_str_eq(s.title, "two");
	ck_assert_str_eq(s.sql, "\nSELECT 'x'\n");
	ck_assert(s.gexec);
	step_release(&s);
	ck_assert_int_eq(step_next(&s, &cursor), 0);
}
END_TEST

START_TEST(steps_need_their_mark_at_the_line_start)
{
	const char *cursor = "SELECT 1; -- step: no\n";
	struct step s;

	ck_assert_int_eq(step_next(&s, &cursor), 0);
	cursor = "-- step: yes\nSELECT '-- step: no';\nSELECT ' \\gexec';\n";
	ck_assert_int_eq(step_next(&s, &cursor), 1);
	ck_assert_str_eq(s.sql, "\nSELECT '-- step: no';\nSELECT ' \\gexec';\n");
	ck_assert(!s.gexec);
	step_release(&s);
	ck_assert_int_eq(step_next(&s, &cursor), 0);
}
END_TEST

START_TEST(every_embedded_file_has_steps)
{
	size_t files = 0;

	for (const struct sql_file *f = sql_files; f->name; f++, files++) {
		const char *cursor = f->text;
		struct step s;
		int steps = 0;

		while (step_next(&s, &cursor) == 1) {
			ck_assert(*s.title && strlen(s.sql) > 1);
			step_release(&s);
			steps++;
		}
		ck_assert_int_gt(steps, 0);
		ck_assert_uint_eq(f->len, strlen(f->text));
	}
	ck_assert_uint_ge(files, 5);
}
END_TEST

/* --- versions */

static size_t faults(const struct known_bad *(*next)(int, size_t *), int version)
{
	size_t at = 0, n = 0;

	while (next(version, &at))
		n++;
	return n;
}

START_TEST(versions_with_faults)
{
	static const struct {
		int version;
		size_t server, libpq;
	} cases[] = {
		{ 140003, 2, 1 }, { 140004, 1, 1 }, { 140020, 0, 0 }, { 140021, 1, 0 }, { 140022, 0, 0 },
		{ 150000, 1, 1 }, { 150010, 1, 1 }, { 150011, 1, 0 }, { 150014, 1, 0 }, { 150015, 0, 0 },
		{ 150016, 1, 0 }, { 150018, 0, 0 }, { 160006, 1, 1 }, { 160011, 0, 0 }, { 170002, 1, 1 },
		{ 170007, 0, 0 }, { 180000, 1, 0 }, { 180001, 0, 0 }, { 180002, 1, 0 }, { 190000, 0, 0 },
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
		ck_assert_msg(faults(known_bad_server, cases[i].version) == cases[i].server, "%d", cases[i].version);
		ck_assert_msg(faults(known_bad_libpq, cases[i].version) == cases[i].libpq, "%d", cases[i].version);
	}
}
END_TEST

/* --- tags */

START_TEST(tag_lists)
{
	struct json_object *tags = json_object_new_array();

	tags_add_list(tags, " dm:evaluate_plan , priority:high,,dm:evaluate_plan, ");
	tags_add(tags, "with, comma");
	tags_add(tags, "");
	ck_assert_str_eq(json_object_to_json_string_ext(tags, TAGS_JSON_FLAGS),
			 "[\"dm:evaluate_plan\",\"priority:high\",\"with, comma\"]");
	json_object_put(tags);
}
END_TEST

START_TEST(which_tags_are_routes)
{
	static const char *const routes[] = { "dm:evaluate_plan", "a:b", "priorities:x", "ü:ö" };
	static const char *const others[] = { "", "word", ":", "a:", ":b", "a:b:c", "a b:c", "a:b c", "a:b\n",
					      "priority:high", "timeout:5", "original_strand:AD_1",
					      "error:timeout" };

	for (size_t i = 0; i < sizeof(routes) / sizeof(*routes); i++)
		ck_assert_msg(tag_is_route(routes[i]), "%s", routes[i]);
	for (size_t i = 0; i < sizeof(others) / sizeof(*others); i++)
		ck_assert_msg(!tag_is_route(others[i]), "%s", others[i]);
}
END_TEST

/* Random lists of pieces that tags and their mistakes are made of. */
static size_t random_text(char *out, size_t size, unsigned *seed)
{
	static const char *const pieces[] = { "dm", "evaluate_plan", "priority", "PRIORITY", "timeout", "original_strand",
					      "error", "high", "HIGH", "300", "2.5", "-1", ".", ":", ":", ":", ",", ",", " ",
					      "\t", "\n", "\v", "\"", "\\", "\x01", "\xc3\xbc", "e9" };
	size_t n = 0, count = (size_t)rand_r(seed) % 9;

	for (size_t i = 0; i < count; i++) {
		const char *piece = pieces[(size_t)rand_r(seed) % (sizeof(pieces) / sizeof(*pieces))];

		if (n + strlen(piece) >= size)
			break;
		memcpy(out + n, piece, strlen(piece));
		n += strlen(piece);
	}
	out[n] = '\0';
	return n;
}

/* The list again, from the tags that were read from it. */
static void join(const struct json_object *tags, char *out)
{
	*out = '\0';
	for (size_t i = 0; i < json_object_array_length(tags); i++) {
		strcat(out, i ? " ,\t" : "");
		strcat(out, json_object_get_string(json_object_array_get_idx(tags, i)));
	}
}

/* Each tag stands in the list, bears no comma and no blank at its ends, is there
 * once, and reading what was read changes nothing. */
START_TEST(tag_lists_of_anything)
{
	unsigned seed = 1;

	for (int round = 0; round < 100000; round++) {
		struct json_object *tags = json_object_new_array(), *again = json_object_new_array();
		char text[256], joined[1024];

		random_text(text, sizeof(text), &seed);
		tags_add_list(tags, text);
		for (size_t i = 0; i < json_object_array_length(tags); i++) {
			const char *tag = json_object_get_string(json_object_array_get_idx(tags, i));

			ck_assert_msg(*tag && strstr(text, tag) && !strchr(tag, ','), "%s of %s", tag, text);
			ck_assert_msg(!isspace((unsigned char)*tag) && !isspace((unsigned char)tag[strlen(tag) - 1]),
				      "%s of %s", tag, text);
			for (size_t j = 0; j < i; j++)
				ck_assert_str_ne(tag, json_object_get_string(json_object_array_get_idx(tags, j)));
			ck_assert(tags_hold(tags, tag));
		}
		join(tags, joined);
		tags_add_list(again, joined);
		ck_assert_msg(json_object_equal(tags, again), "%s and %s", text, joined);
		json_object_put(tags);
		json_object_put(again);
	}
}
END_TEST

/* What strandd's SQL says: two words without blanks around one colon, the first of
 * them no attribute. */
START_TEST(routes_are_what_a_pattern_says)
{
	regex_t route, attribute;
	unsigned seed = 2;
	int routes = 0;

	ck_assert(!regcomp(&route, "^[^:[:space:]]+:[^:[:space:]]+$", REG_EXTENDED | REG_NOSUB));
	ck_assert(!regcomp(&attribute, "^(priority|timeout|original_strand|error):", REG_EXTENDED | REG_NOSUB));
	for (int round = 0; round < 100000; round++) {
		char text[256];
		bool wanted;

		random_text(text, sizeof(text), &seed);
		wanted = !regexec(&route, text, 0, NULL, 0) && regexec(&attribute, text, 0, NULL, 0);
		routes += wanted;
		ck_assert_msg(tag_is_route(text) == wanted, "%s", text);
	}
	ck_assert_int_gt(routes, 100);
	regfree(&route);
	regfree(&attribute);
}
END_TEST

START_TEST(attributes_that_are_not_heeded)
{
	static const char *const good[] = { "timeout:0", "timeout:300", "timeout:2.5", "timeout:00.10", "priority:high",
					    "timeout:123456789012345.123456789012345", "original_strand:", "error:x",
					    "dm:evaluate_plan", "word", "", "timeouts:x",
					    "timeout", "priority" };
	static const char *const bad[] = { "timeout:", "timeout:abc", "timeout:-1", "timeout:+1", "timeout:1e3", "timeout:.5",
					   "timeout:5.", "timeout:1.2.3", "timeout: 5", "timeout:5 ", "timeout:5s", "timeout:inf",
					   "timeout:NaN", "timeout:0x10", "timeout:1234567890123456",
					   "timeout:1.1234567890123456", "TIMEOUT:5", "Timeout:5", "priority:", "priority:HIGH",
					   "priority:low", "priority:high ", "PRIORITY:high" };

	for (size_t i = 0; i < sizeof(good) / sizeof(*good); i++)
		ck_assert_msg(!tag_fault(good[i]), "%s", good[i]);
	for (size_t i = 0; i < sizeof(bad) / sizeof(*bad); i++)
		ck_assert_msg(tag_fault(bad[i]), "%s", bad[i]);
}
END_TEST

START_TEST(timeouts_are_what_a_pattern_says)
{
	regex_t seconds;
	unsigned seed = 3;
	int faults = 0, rounds = 100000;

	ck_assert(!regcomp(&seconds, "^timeout:[0-9]{1,15}(\\.[0-9]{1,15})?$", REG_EXTENDED | REG_NOSUB));
	for (int round = 0; round < rounds; round++) {
		char text[280] = "timeout:";

		random_text(text + 8, sizeof(text) - 8, &seed);
		ck_assert_msg(!tag_fault(text) == !regexec(&seconds, text, 0, NULL, 0), "%s", text);
		faults += !!tag_fault(text);
	}
	ck_assert_int_lt(faults, rounds);
	regfree(&seconds);
}
END_TEST

/* --- times */

START_TEST(times_compare_with_cut_fractions)
{
	static const char *const ordered[] = {
		"", "2026-01-01 00:00:00+00", "2026-01-01 00:00:00.04+00", "2026-01-01 00:00:00.5+00",
		"2026-01-01 00:00:00.51+00", "2026-01-01 00:00:01+00", "2026-02-01 00:00:00+00",
	};
	int n = sizeof(ordered) / sizeof(*ordered);

	for (int i = 0; i < n; i++) {
		for (int j = 0; j < n; j++) {
			int order = strands_compare_times(ordered[i], ordered[j]);

			ck_assert_msg((order > 0) - (order < 0) == (i > j) - (i < j), "%s, %s", ordered[i],
				      ordered[j]);
		}
	}
}
END_TEST

/* --- JSON */

static void check_bad(const char *text, const char *said)
{
	struct err e = { 0 };
	struct json_object *value = json_read(text, strlen(text), "line 3: ", &e);

	ck_assert_ptr_null(value);
	ck_assert_int_eq(e.code, STRAND_EINVAL);
	ck_assert_msg(!strncmp(e.text, said, strlen(said)), "%s: %s", text, e.text);
}

START_TEST(bad_json_is_placed)
{
	check_bad("", "line 3: not JSON at column 1: ends too early");
	check_bad("{\"a\": 1", "line 3: not JSON at column 8: ends too early");
	check_bad("{\"a\": 1,}", "line 3: not JSON at column 9: ");
	check_bad("{\"a\": 1} x", "line 3: not JSON at column 10: ");
	check_bad("{\"a\": 01}", "line 3: not JSON at column ");
	check_bad("{\"a\": \"\xff\"}", "line 3: not JSON at column ");
	check_bad("null", "line 3: JSON null");
}
END_TEST

START_TEST(good_json_is_read)
{
	static const char *const good[] = { "{}", " {\"a\": [1, 2.5e300, \"\\u00e9\"]} \r", "[]", "12", "\"x\"", "true" };

	for (size_t i = 0; i < sizeof(good) / sizeof(*good); i++) {
		struct err e = { 0 };
		struct json_object *value = json_read(good[i], strlen(good[i]), "", &e);

		ck_assert_msg(value != NULL, "%s: %s", good[i], e.text);
		json_object_put(value);
	}
}
END_TEST

/* --- lines */

static struct ctl quiet_ctl = { .interrupted = { .fd = -1 } };

START_TEST(lines_of_a_pipe)
{
	static const char text[] = "one\n\ntwo and a half";
	struct lines l;
	char *line;
	size_t len;
	int fds[2];

	ck_assert_int_eq(pipe(fds), 0);
	ck_assert_int_eq(event_init(&quiet_ctl.interrupted), 0);
	ck_assert_int_eq(write(fds[1], text, sizeof(text) - 1), sizeof(text) - 1);
	lines_init(&l, &quiet_ctl, fds[0]);
	ck_assert_int_eq(lines_next(&l, 0, &line, &len, NULL), LINES_GOT);
	ck_assert_str_eq(line, "one");
	ck_assert_int_eq(lines_next(&l, 0, &line, &len, NULL), LINES_GOT);
	ck_assert_uint_eq(len, 0);
	ck_assert_int_eq(lines_next(&l, 0, &line, &len, NULL), LINES_QUIET);
	close(fds[1]);
	ck_assert_int_eq(lines_next(&l, -1, &line, &len, NULL), LINES_GOT);
	ck_assert_str_eq(line, "two and a half");
	ck_assert_int_eq(l.number, 3);
	ck_assert_int_eq(l.bytes, sizeof(text) - 1);
	ck_assert_int_eq(lines_next(&l, -1, &line, &len, NULL), LINES_END);
	lines_release(&l);
	close(fds[0]);
	event_release(&quiet_ctl.interrupted);
}
END_TEST

START_TEST(lines_longer_than_the_buffer)
{
	size_t size = 300000;
	char *big = malloc(size + 1), *line;
	FILE *file = tmpfile();
	struct lines l;
	size_t len;
	int fd;

	ck_assert_ptr_nonnull(file);
	fd = fileno(file);
	ck_assert_int_eq(event_init(&quiet_ctl.interrupted), 0);
	memset(big, 'x', size);
	big[size] = '\n';
	for (int i = 0; i < 3; i++)
		ck_assert_int_eq(write(fd, big, size + 1 - (size_t)i), (ssize_t)size + 1 - i);
	lseek(fd, 0, SEEK_SET);
	lines_init(&l, &quiet_ctl, fd);
	ck_assert_int_eq(lines_next(&l, -1, &line, &len, NULL), LINES_GOT);
	ck_assert_uint_eq(len, size);
	/* The second was written without its newline, so the third is its rest. */
	ck_assert_int_eq(lines_next(&l, -1, &line, &len, NULL), LINES_GOT);
	ck_assert_uint_eq(len, 2 * size - 1);
	ck_assert_int_eq(lines_next(&l, -1, &line, &len, NULL), LINES_END);
	lines_release(&l);
	fclose(file);
	free(big);
	event_release(&quiet_ctl.interrupted);
}
END_TEST

START_TEST(lines_are_interrupted)
{
	struct err e = { 0 };
	struct lines l;
	char *line;
	size_t len;
	int fds[2];

	ck_assert_int_eq(pipe(fds), 0);
	ck_assert_int_eq(event_init(&quiet_ctl.interrupted), 0);
	lines_init(&l, &quiet_ctl, fds[0]);
	event_signal(&quiet_ctl.interrupted);
	ck_assert_int_eq(lines_next(&l, -1, &line, &len, &e), STRAND_ESTOPPED);
	close(fds[1]);
	ck_assert_int_eq(lines_next(&l, -1, &line, &len, &e), STRAND_ESTOPPED);
	lines_release(&l);
	close(fds[0]);
	event_release(&quiet_ctl.interrupted);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("strandctl");
	TCase *tc = tcase_create("pure");
	SRunner *runner;
	int failed;

	tcase_add_test(tc, steps_are_cut_at_their_titles);
	tcase_add_test(tc, steps_need_their_mark_at_the_line_start);
	tcase_add_test(tc, every_embedded_file_has_steps);
	tcase_add_test(tc, versions_with_faults);
	tcase_add_test(tc, tag_lists);
	tcase_add_test(tc, which_tags_are_routes);
	tcase_add_test(tc, tag_lists_of_anything);
	tcase_add_test(tc, routes_are_what_a_pattern_says);
	tcase_add_test(tc, attributes_that_are_not_heeded);
	tcase_add_test(tc, timeouts_are_what_a_pattern_says);
	tcase_add_test(tc, times_compare_with_cut_fractions);
	tcase_add_test(tc, bad_json_is_placed);
	tcase_add_test(tc, good_json_is_read);
	tcase_add_test(tc, lines_of_a_pipe);
	tcase_add_test(tc, lines_longer_than_the_buffer);
	tcase_add_test(tc, lines_are_interrupted);
	suite_add_tcase(suite, tc);
	runner = srunner_create(suite);
	srunner_run_all(runner, CK_NORMAL);
	failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed ? 1 : 0;
}
