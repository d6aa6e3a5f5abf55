/* Fuzz targets: each takes any bytes and aborts where a promise is broken.
 *
 * With --enable-fuzzers (clang) each is a libFuzzer program, tests/fuzz/fuzz_conf
 * and so on; `make check` replays the inputs kept in tests/fuzz/corpus.
 */
#ifndef STRANDD_TESTS_FUZZ_FUZZ_H
#define STRANDD_TESTS_FUZZ_FUZZ_H

#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

typedef int fuzz_fn(const uint8_t *data, size_t size);

/* A configuration file and, behind a NUL, --set arguments, one a line. */
fuzz_fn fuzz_conf;
/* Tags as strandctl takes them: a list with commas, and a row as JSON. */
fuzz_fn fuzz_tags;
/* A line that a handler's process answers. */
fuzz_fn fuzz_answer;

#define PROMISE(condition) \
	do { \
		if (!(condition)) { \
			fprintf(stderr, "%s:%d: broken: %s\n", __FILE__, __LINE__, #condition); \
			abort(); \
		} \
	} while (0)

#endif
