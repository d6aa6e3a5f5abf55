/* Records, their forms, and lines written by who logs them. */
#include "base/log.h"

#include <check.h>
#include <errno.h>
#include <fcntl.h>
#include <json.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log_render.h"

#define ESCAPE "\033"
#define C1_CSI "\302\233"		/* U+009B, a terminal's escape in one letter */
#define RIGHT_TO_LEFT "\342\200\256"	/* U+202E */

struct capture {
	int saved, read_end;
};

static void capture_begin(struct capture *c)
{
	int ends[2];

	ck_assert_int_eq(pipe(ends), 0);
	c->saved = dup(STDERR_FILENO);
	c->read_end = ends[0];
	dup2(ends[1], STDERR_FILENO);
	close(ends[1]);
}

static void capture_end(struct capture *c, char *out, size_t size)
{
	ssize_t n;

	dup2(c->saved, STDERR_FILENO);
	close(c->saved);
	n = read(c->read_end, out, size - 1);
	ck_assert_int_ge(n, 0);
	out[n] = '\0';
	close(c->read_end);
}

static char *rendered(const struct log_fields *fields, const char *message, bool json)
{
	struct log_record *r = log_record_new(LOG_LEVEL_WARNING, fields, message);
	struct buf line;

	ck_assert_ptr_nonnull(r);
	r->instance = 7;
	buf_init(&line);
	if (json)
		log_render_json(&line, r);
	else
		log_render_text(&line, r, false);
	ck_assert(!line.failed);
	free(r);
	return buf_steal(&line);
}

static void assert_text(const struct log_fields *fields, const char *message, const char *expected)
{
	char *line = rendered(fields, message, false);

	ck_assert_str_eq(line, expected);
	free(line);
}

START_TEST(lines_of_who_logs)
{
	struct capture c;
	char out[20000];

	capture_begin(&c);
	errno = EDOM;
	log_info("one\ntwo %d", 2);
	ck_assert_int_eq(errno, EDOM);
	log_debug("not at this level");
	log_set_level(LOG_LEVEL_ERROR);
	log_warning("nor this");
	log_error("%s", "last");
	log_set_instance(12);
	log_event(LOG_LEVEL_ERROR, NULL, "no fields");
	capture_end(&c, out, sizeof(out));
	ck_assert_str_eq(out, "info main: one\\ntwo 2\nerror main: last\nerror main: no fields instance=12\n");
}
END_TEST

START_TEST(names_of_levels)
{
	ck_assert_str_eq(log_level_names[LOG_LEVEL_ERROR], "error");
	ck_assert_str_eq(log_level_names[LOG_LEVEL_DEBUG], "debug");
	ck_assert_ptr_null(log_level_names[LOG_LEVEL_DEBUG + 1]);
}
END_TEST

START_TEST(names_of_formats)
{
	static const char *const names[] = { "auto", "text", "journal", "json" };
	enum log_format format = LOG_FORMAT_JSON;

	for (size_t i = 0; i < 4; i++) {
		ck_assert_int_eq(log_format_parse(names[i], &format), 0);
		ck_assert_uint_eq(format, i);
	}
	ck_assert_int_eq(log_format_parse("xml", &format), STRAND_EINVAL);
	ck_assert_int_eq(log_format_parse("", &format), STRAND_EINVAL);
	ck_assert_uint_eq(format, LOG_FORMAT_JSON);
}
END_TEST

/* Logs one warning with JOURNAL_STREAM set to the stream, or to another. */
static void log_beside(ino_t off_by, char *out, size_t size)
{
	struct capture c;
	struct stat st;
	char text[64];

	capture_begin(&c);
	ck_assert_int_eq(fstat(STDERR_FILENO, &st), 0);
	snprintf(text, sizeof(text), "%ju:%ju", (uintmax_t)st.st_dev, (uintmax_t)(st.st_ino + off_by));
	setenv("JOURNAL_STREAM", text, 1);
	log_set_format(LOG_FORMAT_TEXT);
	log_warning("w");
	capture_end(&c, out, size);
}

START_TEST(text_to_the_journal_has_a_prefix)
{
	char out[128];

	log_beside(0, out, sizeof(out));
	ck_assert_str_eq(out, "<4>warning main: w\n");
}
END_TEST

START_TEST(text_beside_the_journal_has_none)
{
	char out[128];

	log_beside(1, out, sizeof(out));
	ck_assert_str_eq(out, "warning main: w\n");
}
END_TEST

START_TEST(text_has_fields_at_its_end)
{
	const struct log_fields all = { .route = "dm:evaluate_plan", .source = "public.ad_strands",
					.strand = "AD_1", .attempt = 3, .sqlstate = "P0001" };
	const struct log_fields empty = { .route = "", .strand = "", .sqlstate = "" };

	assert_text(&all, "failed", "warning main: failed route=dm:evaluate_plan source=public.ad_strands"
		    " strand=AD_1 attempt=3 sqlstate=P0001 instance=7\n");
	assert_text(&empty, "failed", "warning main: failed instance=7\n");
	assert_text(NULL, "", "warning main:  instance=7\n");
}
END_TEST

START_TEST(text_quotes_what_is_no_word)
{
	assert_text(&(struct log_fields){ .strand = "a b" }, "x", "warning main: x strand=\"a b\" instance=7\n");
	assert_text(&(struct log_fields){ .strand = "a\"b\\" }, "x",
		    "warning main: x strand=\"a\\\"b\\\\\" instance=7\n");
	assert_text(&(struct log_fields){ .strand = "a=b" }, "x", "warning main: x strand=\"a=b\" instance=7\n");
	assert_text(&(struct log_fields){ .strand = "\303\244" }, "x",
		    "warning main: x strand=\"\303\244\" instance=7\n");
}
END_TEST

START_TEST(nobody_forges_a_line)
{
	static const char evil[] = "AD_1\nerror main: " ESCAPE "[2J\r" C1_CSI "2J" RIGHT_TO_LEFT "\t\177" "end";
	static const char shown[] = "AD_1\\nerror main: \\u001b[2J\\r\\u009b2J\\u202e\\t\\u007f" "end";
	char expected[400], *json;

	snprintf(expected, sizeof(expected), "warning main: %s strand=\"%s\" instance=7\n", shown, shown);
	assert_text(&(struct log_fields){ .strand = evil }, evil, expected);
	json = rendered(&(struct log_fields){ .strand = evil }, evil, true);
	for (const unsigned char *p = (unsigned char *)json; p[1]; p++)
		ck_assert(*p >= 0x20 && *p < 0x7f);
	free(json);
}
END_TEST

START_TEST(letters_that_do_no_harm_stay)
{
	/* umlaut, em dash, ellipsis, euro, a Chinese letter, a rocket */
	static const char text[] = "\303\274 \342\200\224 \342\200\246 \342\202\254 \344\270\255 \360\237\232\200";
	char expected[100];

	snprintf(expected, sizeof(expected), "warning main: %s instance=7\n", text);
	assert_text(NULL, text, expected);
}
END_TEST

START_TEST(bytes_that_are_no_letters_are_mended)
{
	assert_text(&(struct log_fields){ .strand = "\377" }, "a\200b", "warning main: a?b strand=? instance=7\n");
}
END_TEST

/* The worst: each byte becomes six. */
START_TEST(a_line_of_text_fits_a_pipe)
{
	char longest[6000], *line;

	for (int c = 1; c < 256; c += 100) {
		memset(longest, c, sizeof(longest) - 1);
		longest[sizeof(longest) - 1] = '\0';
		line = rendered(&(struct log_fields){ .route = longest, .source = longest, .strand = longest,
						      .sqlstate = longest }, longest, false);
		ck_assert_uint_le(strlen(line), 4096);
		ck_assert_ptr_nonnull(strstr(line, "... route="));
		ck_assert_ptr_nonnull(strstr(line, " sqlstate="));
		free(line);
	}
}
END_TEST

static struct json_object *parsed(const char *line)
{
	struct json_object *o = json_tokener_parse(line);

	ck_assert_ptr_nonnull(o);
	ck_assert(json_object_is_type(o, json_type_object));
	ck_assert_ptr_eq(strchr(line, '\n'), line + strlen(line) - 1);
	return o;
}

static const char *text_of(struct json_object *o, const char *name)
{
	struct json_object *value;

	return json_object_object_get_ex(o, name, &value) ? json_object_get_string(value) : NULL;
}

START_TEST(json_gives_back_what_it_was_given)
{
	static const char evil[] = "AD \"1\"\\ \n/" ESCAPE C1_CSI RIGHT_TO_LEFT "\303\274";
	char *line = rendered(&(struct log_fields){ .route = "dm:evaluate_plan", .source = "public.ad_strands",
						    .strand = evil, .attempt = 3, .sqlstate = "P0001" },
			      evil, true);
	struct json_object *o = parsed(line);

	ck_assert_str_eq(text_of(o, "level"), "warning");
	ck_assert_str_eq(text_of(o, "thread"), "main");
	ck_assert_str_eq(text_of(o, "message"), evil);
	ck_assert_str_eq(text_of(o, "route"), "dm:evaluate_plan");
	ck_assert_str_eq(text_of(o, "source"), "public.ad_strands");
	ck_assert_str_eq(text_of(o, "strand"), evil);
	ck_assert_str_eq(text_of(o, "sqlstate"), "P0001");
	ck_assert_int_eq(json_object_get_int64(json_object_object_get(o, "attempt")), 3);
	ck_assert_int_eq(json_object_get_int64(json_object_object_get(o, "instance")), 7);
	ck_assert_uint_eq(strlen(text_of(o, "ts")), strlen("2026-01-01T00:00:00.000000Z"));
	json_object_put(o);
	free(line);
}
END_TEST

START_TEST(json_has_no_empty_fields)
{
	char *line = rendered(&(struct log_fields){ .route = "" }, "", true);
	struct json_object *o = parsed(line);

	ck_assert_int_eq(json_object_object_length(o), 5);	/* ts, level, thread, message, instance */
	json_object_put(o);
	free(line);
}
END_TEST

/* Every byte, alone and in the middle: one line of JSON, always. */
START_TEST(json_of_any_bytes)
{
	char text[] = "a?b";

	for (int c = 1; c < 256; c++) {
		text[1] = (char)c;
		for (int offset = 0; offset < 2; offset++) {
			char *line = rendered(&(struct log_fields){ .strand = text + offset }, text, true);
			json_object_put(parsed(line));
			free(line);
		}
	}
}
END_TEST

/* Who logs before the log has a thread, into a pipe that nobody reads. */
START_TEST(a_stalled_reader_delays_and_no_more)
{
	struct capture c;
	char full[4096] = "";
	int64_t before;

	capture_begin(&c);
	fcntl(STDERR_FILENO, F_SETPIPE_SZ, 4096);
	ck_assert_int_eq(write(STDERR_FILENO, full, sizeof(full)), sizeof(full));
	before = clock_now();
	log_error("nobody reads this");
	ck_assert_int_lt((clock_now() - before) / NSEC_PER_MSEC, 3000);
	capture_end(&c, full, sizeof(full));
}
END_TEST

static Suite *log_suite(void)
{
	Suite *s = suite_create("log");
	TCase *t = tcase_create("log");

	tcase_add_test(t, lines_of_who_logs);
	tcase_add_test(t, names_of_levels);
	tcase_add_test(t, names_of_formats);
	tcase_add_test(t, text_to_the_journal_has_a_prefix);
	tcase_add_test(t, text_beside_the_journal_has_none);
	tcase_add_test(t, text_has_fields_at_its_end);
	tcase_add_test(t, text_quotes_what_is_no_word);
	tcase_add_test(t, nobody_forges_a_line);
	tcase_add_test(t, letters_that_do_no_harm_stay);
	tcase_add_test(t, bytes_that_are_no_letters_are_mended);
	tcase_add_test(t, a_line_of_text_fits_a_pipe);
	tcase_add_test(t, json_gives_back_what_it_was_given);
	tcase_add_test(t, json_has_no_empty_fields);
	tcase_add_test(t, json_of_any_bytes);
	tcase_add_test(t, a_stalled_reader_delays_and_no_more);
	suite_add_tcase(s, t);
	return s;
}

int main(void)
{
	SRunner *runner = srunner_create(log_suite());
	int failed;

	srunner_run_all(runner, CK_ENV);
	failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
