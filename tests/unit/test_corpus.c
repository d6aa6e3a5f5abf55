/* Replays what the fuzzers found, and what they start from, without a fuzzer. */
#include "../fuzz/fuzz.h"

#include <check.h>
#include <dirent.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const struct target {
	const char *name;
	fuzz_fn *fn;
} targets[] = { { "conf", fuzz_conf }, { "tags", fuzz_tags }, { "answer", fuzz_answer } };

static int is_input(const struct dirent *entry)
{
	return entry->d_name[0] != '.';
}

static void replay(const struct target *t, const char *path)
{
	static uint8_t data[1 << 20];
	FILE *f = fopen(path, "rb");
	size_t size;
	uint8_t *exact;

	ck_assert_msg(f != NULL, "cannot open %s", path);
	size = fread(data, 1, sizeof(data), f);
	fclose(f);
	/* Of its very size: a byte beyond is an error that AddressSanitizer sees. */
	exact = malloc(size ? size : 1);
	ck_assert_ptr_nonnull(exact);
	memcpy(exact, data, size);
	/* The last words before an abort tell the input. */
	fprintf(stderr, "%s\n", path);
	t->fn(exact, size);
	free(exact);
}

START_TEST(corpus)
{
	const char *srcdir = getenv("srcdir");
	char dir[PATH_MAX / 2], path[PATH_MAX];
	struct dirent **entries = NULL;
	int n;

	snprintf(dir, sizeof(dir), "%s/tests/fuzz/corpus/%s", srcdir ? srcdir : ".", targets[_i].name);
	n = scandir(dir, &entries, is_input, alphasort);
	ck_assert_msg(n > 5, "%s: %d inputs", dir, n);
	for (int i = 0; i < n; i++) {
		snprintf(path, sizeof(path), "%s/%s", dir, entries[i]->d_name);
		replay(&targets[_i], path);
		free(entries[i]);
	}
	free(entries);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("corpus");
	TCase *t = tcase_create("replay");
	SRunner *sr;
	int failed;

	tcase_set_timeout(t, 60);
	tcase_add_loop_test(t, corpus, 0, (int)(sizeof(targets) / sizeof(targets[0])));
	suite_add_tcase(s, t);
	sr = srunner_create(s);
	srunner_run_all(sr, CK_ENV);
	failed = srunner_ntests_failed(sr);
	srunner_free(sr);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
