/* Durations, sizes and decimal numbers: random texts against a second reading of
 * what they mean, round trips, and the edges of 64 bits. */
#include "conf/unit.h"

#include <check.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { ROUNDS = 100000 };

/* ck_assert tells Check of every call, which is too much in a loop of so many. */
#define HOLD(condition, ...) \
	do { \
		if (!(condition)) \
			ck_abort_msg(__VA_ARGS__); \
	} while (0)

static uint64_t state = 0x9e3779b97f4a7c15;

/* xorshift64: the same sequence in every run. */
static uint64_t draw(void)
{
	state ^= state << 13;
	state ^= state >> 7;
	state ^= state << 17;
	return state;
}

/* Small and large numbers alike. */
static int64_t draw_number(void)
{
	return (int64_t)(draw() >> (1 + draw() % 63));
}

typedef enum unit_fault parse_fn(const char *text, int64_t *ret);
typedef const char *format_fn(int64_t value, char out[UNIT_TEXT_SIZE]);

struct unit {
	const char *name;
	int64_t factor;
};

static const struct unit durations[] = {
	{ "ms", 1 }, { "s", 1000 }, { "min", 60000 }, { "m", 60000 }, { "h", 3600000 }, { "d", 86400000 },
};
static const struct unit sizes[] = {
	{ "B", 1 }, { "KiB", 1 << 10 }, { "MiB", 1 << 20 }, { "GiB", 1 << 30 }, { "TiB", INT64_C(1) << 40 },
	{ "kB", 1000 }, { "MB", 1000000 }, { "GB", 1000000000 }, { "TB", INT64_C(1000000000000) },
};

static const struct kind {
	const char *name;
	const struct unit *units;
	size_t n_units;
	parse_fn *parse;
	format_fn *format;
} kinds[] = {
	{ "duration", durations, sizeof(durations) / sizeof(durations[0]), duration_parse, duration_format },
	{ "size", sizes, sizeof(sizes) / sizeof(sizes[0]), size_parse, size_format },
};

/* A whole number with a unit is what 128 bits say it is, or out of range. */
START_TEST(whole_numbers)
{
	const struct kind *k = &kinds[_i];

	for (int i = 0; i < ROUNDS; i++) {
		const struct unit *u = &k->units[draw() % k->n_units];
		int64_t number = draw_number(), value = -1;
		__int128 exact = (__int128)number * u->factor;
		char text[64];
		enum unit_fault fault;

		snprintf(text, sizeof(text), "%" PRId64 "%s%s", number, draw() % 4 ? "" : " ", u->name);
		fault = k->parse(text, &value);
		if (exact > INT64_MAX) {
			HOLD(fault == UNIT_RANGE && value == -1, "%s: %d", text, fault);
		} else {
			HOLD(fault == UNIT_OK, "%s: %d", text, fault);
			HOLD(value == (int64_t)exact, "%s: %" PRId64, text, value);
		}
	}
}
END_TEST

/* What is written reads back as the same number, and no larger unit would do. */
START_TEST(round_trip)
{
	const struct kind *k = &kinds[_i];

	for (int i = 0; i < ROUNDS; i++) {
		int64_t value = draw_number(), back = -1;
		char text[UNIT_TEXT_SIZE], again[UNIT_TEXT_SIZE];

		if (draw() % 2)
			value -= value % k->units[draw() % k->n_units].factor;
		k->format(value, text);
		HOLD(k->parse(text, &back) == UNIT_OK && back == value, "%" PRId64 ": %s", value, text);
		HOLD(!strcmp(k->format(back, again), text), "%s", text);
	}
}
END_TEST

/* number.fraction unit, with the fraction's own digits: exact or refused, never
 * rounded. */
START_TEST(fractions)
{
	const struct kind *k = &kinds[_i];

	for (int i = 0; i < ROUNDS; i++) {
		const struct unit *u = &k->units[draw() % k->n_units];
		int64_t whole = draw_number() % 1000000, value = -1, scale = 1;
		int digits = 1 + (int)(draw() % 9);
		int64_t part;
		__int128 exact;
		char text[64];
		enum unit_fault fault;

		for (int d = 0; d < digits; d++)
			scale *= 10;
		part = (int64_t)(draw() % (uint64_t)scale);
		if (draw() % 2)
			part -= part % (scale / 10);
		snprintf(text, sizeof(text), "%" PRId64 ".%0*" PRId64 "%s", whole, digits, part, u->name);
		fault = k->parse(text, &value);
		exact = ((__int128)whole * scale + part) * u->factor;
		if (exact % scale) {
			HOLD(fault == UNIT_INEXACT && value == -1, "%s: %d", text, fault);
		} else {
			HOLD(fault == UNIT_OK && value == (int64_t)(exact / scale), "%s: %d %" PRId64,
				      text, fault, value);
		}
	}
}
END_TEST

/* Bytes without sense are refused and touch nothing; what is taken begins with a
 * digit and ends with a letter. */
START_TEST(noise)
{
	static const char alphabet[] = "0123456789..  -+eEmshdinKMGTBk\xc3\xa9x\t";
	const struct kind *k = &kinds[_i];

	for (int i = 0; i < ROUNDS; i++) {
		char text[24];
		size_t len = draw() % (sizeof(text) - 1);
		int64_t value = -1;

		for (size_t c = 0; c < len; c++)
			text[c] = alphabet[draw() % (sizeof(alphabet) - 1)];
		text[len] = '\0';
		if (k->parse(text, &value) != UNIT_OK) {
			HOLD(value == -1, "%s", text);
			continue;
		}
		HOLD(value >= 0, "%s", text);
		HOLD(text[0] >= '0' && text[0] <= '9', "%s", text);
		HOLD(text[len - 1] > '9', "%s", text);
	}
}
END_TEST

static const struct edge {
	int kind;
	const char *text;
	enum unit_fault fault;
	int64_t value;
} edges[] = {
	{ 0, "9223372036854775807ms", UNIT_OK, INT64_MAX },
	{ 0, "9223372036854775808ms", UNIT_RANGE, 0 },
	{ 0, "9223372036854775s", UNIT_OK, INT64_C(9223372036854775000) },
	{ 0, "9223372036854775.807s", UNIT_OK, INT64_MAX },
	{ 0, "9223372036854775.808s", UNIT_RANGE, 0 },
	{ 0, "106751991167d", UNIT_OK, INT64_C(106751991167) * 86400000 },
	{ 0, "106751991168d", UNIT_RANGE, 0 },
	{ 0, "99999999999999999999999999999999s", UNIT_RANGE, 0 },
	{ 0, "0ms", UNIT_OK, 0 }, { 0, "000005s", UNIT_OK, 5000 },
	{ 0, "1.5s", UNIT_OK, 1500 }, { 0, "1.5ms", UNIT_INEXACT, 0 }, { 0, "1.0ms", UNIT_OK, 1 },
	{ 0, "0.000000000000000000000000s", UNIT_OK, 0 },
	{ 0, "0.0000000000000000000000001d", UNIT_INEXACT, 0 },
	{ 0, "0.041666666666666666d", UNIT_INEXACT, 0 }, { 0, "0.5d", UNIT_OK, 43200000 },
	{ 0, "2m", UNIT_OK, 120000 }, { 0, "2min", UNIT_OK, 120000 }, { 0, "5 s", UNIT_OK, 5000 },
	{ 0, "", UNIT_SYNTAX, 0 }, { 0, "s", UNIT_SYNTAX, 0 }, { 0, "-5s", UNIT_SYNTAX, 0 },
	{ 0, "+5s", UNIT_SYNTAX, 0 }, { 0, " 5s", UNIT_SYNTAX, 0 }, { 0, ".5s", UNIT_SYNTAX, 0 },
	{ 0, "5.s", UNIT_SYNTAX, 0 }, { 0, "5", UNIT_MISSING, 0 }, { 0, "5.5", UNIT_MISSING, 0 },
	{ 0, "5 ", UNIT_MISSING, 0 }, { 0, "5S", UNIT_UNKNOWN, 0 }, { 0, "5s ", UNIT_UNKNOWN, 0 },
	{ 0, "5us", UNIT_UNKNOWN, 0 }, { 0, "1h30m", UNIT_UNKNOWN, 0 }, { 0, "0x5s", UNIT_UNKNOWN, 0 },
	{ 0, "1e3s", UNIT_UNKNOWN, 0 }, { 0, "5KiB", UNIT_UNKNOWN, 0 }, { 0, "inf", UNIT_SYNTAX, 0 },
	{ 1, "64KiB", UNIT_OK, 65536 }, { 1, "64kB", UNIT_OK, 64000 }, { 1, "1GB", UNIT_OK, 1000000000 },
	{ 1, "1GiB", UNIT_OK, 1 << 30 }, { 1, "0.5KiB", UNIT_OK, 512 }, { 1, "0.3KiB", UNIT_INEXACT, 0 },
	{ 1, "8388607TiB", UNIT_OK, INT64_C(8388607) << 40 }, { 1, "8388608TiB", UNIT_RANGE, 0 },
	{ 1, "9223372036854775807B", UNIT_OK, INT64_MAX }, { 1, "5", UNIT_MISSING, 0 },
	{ 1, "5K", UNIT_UNKNOWN, 0 }, { 1, "5MIB", UNIT_UNKNOWN, 0 }, { 1, "5mb", UNIT_UNKNOWN, 0 },
	{ 1, "5s", UNIT_UNKNOWN, 0 },
};

START_TEST(edge)
{
	const struct edge *x = &edges[_i];
	int64_t value = -1;

	ck_assert_msg(kinds[x->kind].parse(x->text, &value) == x->fault, "%s", x->text);
	ck_assert_msg(value == (x->fault == UNIT_OK ? x->value : -1), "%s: %" PRId64, x->text, value);
}
END_TEST

START_TEST(texts)
{
	char out[UNIT_TEXT_SIZE];

	ck_assert_str_eq(duration_format(0, out), "0ms");
	ck_assert_str_eq(duration_format(1500, out), "1500ms");
	ck_assert_str_eq(duration_format(120000, out), "2min");
	ck_assert_str_eq(duration_format(172800000, out), "2d");
	ck_assert_str_eq(duration_format(INT64_MAX, out), "9223372036854775807ms");
	ck_assert_str_eq(size_format(16 << 20, out), "16MiB");
	ck_assert_str_eq(size_format(5000000, out), "5MB");
	ck_assert_str_eq(size_format(1023, out), "1023B");
}
END_TEST

/* Any decimal of up to 15 digits is the double that the C library makes of it. */
START_TEST(decimals)
{
	double value;

	for (int i = 0; i < ROUNDS; i++) {
		char text[64];
		double expected;

		snprintf(text, sizeof(text), "%" PRIu64 ".%0*" PRIu64, draw() % 10000, 1 + (int)(draw() % 10),
			 draw() % 10);
		expected = strtod(text, NULL);
		HOLD(decimal_parse(text, &value) == UNIT_OK, "%s", text);
		HOLD(!memcmp(&value, &expected, sizeof(value)), "%s: %.17g", text, value);
	}
	ck_assert_int_eq(decimal_parse("2", &value), UNIT_OK);
	ck_assert_int_eq(decimal_parse("nan", &value), UNIT_SYNTAX);
	ck_assert_int_eq(decimal_parse("-1.0", &value), UNIT_SYNTAX);
	ck_assert_int_eq(decimal_parse("1e9", &value), UNIT_UNKNOWN);
	ck_assert_int_eq(decimal_parse("1,5", &value), UNIT_UNKNOWN);
	ck_assert_int_eq(decimal_parse("9007199254740993", &value), UNIT_RANGE);
	ck_assert_int_eq(decimal_parse("0.12345678901234567", &value), UNIT_INEXACT);
	ck_assert_int_eq(decimal_parse("99999999999999999999", &value), UNIT_RANGE);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("unit");
	TCase *t = tcase_create("unit");
	SRunner *sr;
	int failed;

	tcase_add_loop_test(t, whole_numbers, 0, 2);
	tcase_add_loop_test(t, round_trip, 0, 2);
	tcase_add_loop_test(t, fractions, 0, 2);
	tcase_add_loop_test(t, noise, 0, 2);
	tcase_add_loop_test(t, edge, 0, (int)(sizeof(edges) / sizeof(edges[0])));
	tcase_add_test(t, texts);
	tcase_add_test(t, decimals);
	suite_add_tcase(s, t);
	sr = srunner_create(s);
	srunner_run_all(sr, CK_ENV);
	failed = srunner_ntests_failed(sr);
	srunner_free(sr);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
