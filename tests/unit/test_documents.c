/* The table of options, the sample, the manual and --print-config say the same. */
#include "conf/document.h"

#include <check.h>
#include <ctype.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "conf/conf.h"
#include "conf/option.h"
#include "conf/overlay.h"
#include "conf/print.h"
#include "conf/report.h"
#include "conf/tree.h"
#include "conf/value.h"

static void read_file(const char *name, struct buf *text)
{
	const char *srcdir = getenv("srcdir");
	char path[PATH_MAX], chunk[4096];
	size_t n;
	FILE *f;

	snprintf(path, sizeof(path), "%s/%s", srcdir ? srcdir : ".", name);
	f = fopen(path, "r");
	ck_assert_msg(f != NULL, "cannot open %s", path);
	buf_init(text);
	while ((n = fread(chunk, 1, sizeof(chunk), f)) > 0)
		buf_add(text, chunk, n);
	fclose(f);
}

/* Names the first line that differs. */
static void assert_same(const char *what, const char *committed, const char *made)
{
	while (*made || *committed) {
		size_t a = strcspn(committed, "\n"), b = strcspn(made, "\n");

		ck_assert_msg(a == b && !memcmp(committed, made, a),
			      "%s is not what the table says; run `make documents`\n has: %.*s\nmade: %.*s",
			      what, (int)a, committed, (int)b, made);
		committed += a + (committed[a] == '\n');
		made += b + (made[b] == '\n');
	}
}

START_TEST(sample_is_made_from_the_table)
{
	struct buf committed, made;

	read_file("conf/strandd.conf", &committed);
	buf_init(&made);
	document_sample(&made);
	assert_same("conf/strandd.conf", committed.data, made.data);
	buf_release(&committed);
	buf_release(&made);
}
END_TEST

START_TEST(manual_is_made_from_the_table)
{
	struct buf committed, made;
	char *begin, *end;

	read_file("man/strandd.8", &committed);
	buf_init(&made);
	document_manual(&made);
	begin = strstr(committed.data, DOCUMENT_BEGIN);
	ck_assert_msg(begin != NULL, "man/strandd.8 lacks the mark %s", DOCUMENT_BEGIN);
	end = strstr(begin, DOCUMENT_END);
	ck_assert_msg(end != NULL, "man/strandd.8 lacks the mark %s", DOCUMENT_END);
	end[strlen(DOCUMENT_END)] = '\0';
	assert_same("man/strandd.8", begin, made.data);
	buf_release(&committed);
	buf_release(&made);
}
END_TEST

static struct conf *read_text(const char *text)
{
	struct reports reports = REPORTS_INIT;
	struct conf *c = NULL;
	char path[64];
	struct conf_request request = { .file = path };
	FILE *f;
	int ret;

	snprintf(path, sizeof(path), "test_documents.%d.conf", (int)getpid());
	f = fopen(path, "w");
	ck_assert_ptr_nonnull(f);
	fputs(text, f);
	fclose(f);
	ck_assert_int_eq(chmod(path, 0600), 0);
	ret = conf_read(&c, &request, &reports);
	unlink(path);
	ck_assert_msg(ret == 0, "%s\n%s", reports.n ? reports.list[0].text : "", text);
	reports_release(&reports);
	return c;
}

/* Everything that stands in the sample as a comment taken in: '#' and no blank, or
 * what is inside the lists; but one of the two passwords is enough, and there is no
 * such file. */
static void uncomment(const char *text, struct buf *out)
{
	buf_init(out);
	while (*text) {
		size_t len = strcspn(text, "\n") + 1, blank = strspn(text, " ");
		const char *p = text + blank + 1;
		bool setting = text[blank] == '#' && (isalpha((unsigned char)*p) || *p == ')' ||
						      !strncmp(p, "  {", 3) || !strncmp(p, "    att", 7) ||
						      !strncmp(p, "    com", 7));

		if (setting && strncmp(p, "password", 8))
			buf_add(out, p, len - blank - 1);
		else
			buf_add(out, text, len);
		text += len;
	}
}

/* Taken literally the sample changes nothing; uncommented, each setting is the row's
 * default or example. */
START_TEST(sample_says_the_defaults)
{
	struct conf *as_it_is, *all, *expected;
	struct buf sample, uncommented;
	size_t at = 0;

	read_file("conf/strandd.conf", &sample);
	uncomment(sample.data, &uncommented);
	as_it_is = read_text(sample.data);
	all = read_text(uncommented.data);
	ck_assert_int_eq(conf_default(&expected), 0);
	ck_assert_ptr_null(conf_next_change(as_it_is, expected, &at));
	ck_assert_uint_eq(as_it_is->n_routes, 0);
	ck_assert_uint_eq(all->n_modules, 3);
	ck_assert_uint_eq(all->n_routes + all->n_left_out, 6);
	ck_assert_uint_eq(all->n_routes, 2);
	for (size_t i = 0; i < conf_options.n; i++) {
		const struct option *o = &conf_options.options[i];

		if (!o->fallback && strncmp(tree_leaf(o->path), "password", 8))
			ck_assert_int_eq(value_set(o, expected, o->example, NULL), 0);
		ck_assert_msg(value_equal(o, all, expected), "%s", o->path);
	}
	conf_free(as_it_is);
	conf_free(all);
	conf_free(expected);
	buf_release(&sample);
	buf_release(&uncommented);
}
END_TEST

/* Another value than the default. */
static const char *other_value(const struct option *o)
{
	switch (o->type) {
	case OPTION_STRING:
		return "a \"b\\c\" \x01 d";
	case OPTION_DATABASE:
		return "d b";
	case OPTION_PORT:
		return "6543";
	case OPTION_STRINGS:
		return "dm_x, b c";
	case OPTION_INT:
		return strcmp(o->path, "workers.threads") ? "3" : "5";
	case OPTION_DECIMAL:
		return "1.1";
	case OPTION_DURATION:
		return o->min > 1234 ? "31234ms" : "1234ms";
	case OPTION_SIZE:
		return "123456B";
	case OPTION_BOOL:
		return strcmp(o->fallback, "true") ? "true" : "false";
	case OPTION_LEVEL:
		return "debug";
	case OPTION_FORMAT:
		return "json";
	case OPTION_DELIVERY:
		return "at-most-once";
	}
	return NULL;
}

static const char routes_text[] =
	"routes = ( { tag = \"dm:x\"; source = \"s\"; handler = \"f\"; attempts = 7;\n"
	"   backoff: { initial = \"3s\"; factor = 1.1; cap = \"1h\"; }; timeout = \"2d\"; max_workers = 2;\n"
	"   batch = 9; suspend_after = 0; },\n"
	" { tag = \"dm:y\"; source = \"\\\"S\\\"\"; handler = \"f\"; serial = true; },\n"
	" { tag = \"dm:z\"; source = \"s\"; command = [ \"/bin/x\", \"a \\\"b, c\" ]; processes = 3; delivery = \"at-most-once\";\n"
	"   process: { in_flight = 2; deadline = \"3s\"; ready = true; max_line = \"1MiB\"; environment = [ \"A=b c\", \"D=\" ]; }; } );\n";

/* What is printed reads as what was printed, whatever the values are; only the
 * password is kept back. */
START_TEST(print_reads_back)
{
	struct conf *c = read_text(routes_text), *back;
	struct buf text;

	for (size_t i = 0; i < conf_options.n; i++) {
		const struct option *o = &conf_options.options[i];

		if (_i && !o->secret && strcmp(tree_leaf(o->path), "password_file"))
			ck_assert_int_eq(value_set(o, c, other_value(o), NULL), 0);
	}
	buf_init(&text);
	print_conf(&text, c);
	back = read_text(text.data);
	for (size_t i = 0; i < conf_options.n; i++)
		ck_assert_msg(value_equal(&conf_options.options[i], c, back), "%s:\n%s",
			      conf_options.options[i].path, text.data);
	ck_assert_uint_eq(back->n_modules, 3);
	ck_assert_uint_eq(back->n_routes + back->n_left_out, 3);
	for (size_t i = 0; i < route_options.n; i++) {
		ck_assert_msg(value_equal(&route_options.options[i], &c->routes[0], &back->routes[0]), "%s",
			      route_options.options[i].path);
		for (size_t k = 1; k < 3; k++)
			ck_assert_msg(value_equal(&route_options.options[i], &c->routes[k],
						  _i ? &back->left_out[k - 1] : &back->routes[k]), "%s",
				      route_options.options[i].path);
	}
	buf_release(&text);
	conf_free(c);
	conf_free(back);
}
END_TEST

/* Every option is printed with its origin. */
START_TEST(print_tells_origins)
{
	struct conf *c = read_text("workers: {\n threads = 7; };\n"
				   "module_communication: { database: { password = \"pss\"; }; };");
	struct buf text;
	char line[256];

	buf_init(&text);
	print_conf(&text, c);
	for (size_t i = 0; i < conf_options.n; i++) {
		const struct option *o = &conf_options.options[i];

		snprintf(line, sizeof(line), o->fallback && strcmp(o->path, "workers.threads")
			 ? "%s = " : "%s", tree_leaf(o->path));
		ck_assert_msg(strstr(text.data, line), "%s", line);
	}
	snprintf(line, sizeof(line), "  threads = 7;  # test_documents.%d.conf:2\n", (int)getpid());
	ck_assert_msg(strstr(text.data, line), "%s", text.data);
	ck_assert_ptr_nonnull(strstr(text.data, "  batch = 100;  # default\n"));
	snprintf(line, sizeof(line), "#password is set and not shown  # test_documents.%d.conf:3\n", (int)getpid());
	ck_assert_ptr_nonnull(strstr(text.data, line));
	ck_assert_ptr_null(strstr(text.data, "pss"));
	buf_release(&text);
	conf_free(c);
}
END_TEST

static const struct option_table *const tables[] = { &conf_options, &module_options, &route_options };

/* values_default trusts the tables, and so do the texts. */
START_TEST(tables_are_sound)
{
	const struct option_table *t = tables[_i];
	_Alignas(16) char base[2048] = { 0 };

	for (size_t i = 0; i < t->n; i++) {
		const struct option *o = &t->options[i];
		char name[VARIABLE_SIZE], other[VARIABLE_SIZE];
		struct buf text;
		struct err e = { 0 };

		ck_assert_int_le(o->min, o->max);
		ck_assert_int_eq(o->help[strlen(o->help) - 1], '.');
		ck_assert_uint_lt(strlen(o->path), VARIABLE_SIZE - strlen(VARIABLE_PREFIX));
		ck_assert(o->required || o->fallback || o->example);
		if (o->type == OPTION_INT)
			ck_assert_int_le(o->max, INT_MAX);
		for (size_t k = 0; k < i; k++)
			ck_assert_str_ne(overlay_variable(name, o), overlay_variable(other, &t->options[k]));
		if (!o->fallback && !o->example)
			continue;
		ck_assert_msg(value_set(o, base, o->fallback ? o->fallback : o->example, &e) == 0, "%s", e.text);
		buf_init(&text);
		ck_assert(value_text(o, base, &text));
		ck_assert_str_eq(text.data, o->fallback ? o->fallback : o->example);
		buf_release(&text);
	}
	values_release(t, base);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("documents");
	TCase *t = tcase_create("documents");
	SRunner *sr;
	int failed;

	tcase_add_test(t, sample_is_made_from_the_table);
	tcase_add_test(t, manual_is_made_from_the_table);
	tcase_add_test(t, sample_says_the_defaults);
	tcase_add_loop_test(t, print_reads_back, 0, 2);
	tcase_add_test(t, print_tells_origins);
	tcase_add_loop_test(t, tables_are_sound, 0, 3);
	suite_add_tcase(s, t);
	sr = srunner_create(s);
	srunner_run_all(sr, CK_ENV);
	failed = srunner_ntests_failed(sr);
	srunner_free(sr);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
