#include "conf/unit.h"

#include <inttypes.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

struct unit {
	const char *name;
	int64_t factor;
};

/* The largest first, and of equals the one that is written. */
static const struct unit durations[] = {
	{ "d", 86400000 }, { "h", 3600000 }, { "min", 60000 }, { "m", 60000 }, { "s", 1000 }, { "ms", 1 },
};

#define KI INT64_C(1024)
#define K INT64_C(1000)

/* Binary ones before decimal ones: 1024000 is 1000KiB. */
static const struct unit sizes[] = {
	{ "TiB", KI * KI * KI * KI }, { "GiB", KI * KI * KI }, { "MiB", KI * KI }, { "KiB", KI },
	{ "TB", K * K * K * K }, { "GB", K * K * K }, { "MB", K * K }, { "kB", K }, { "B", 1 },
};

/* 18 digits fit in 64 bits. */
enum { DIGITS_MAX = 18 };

/* whole + part / scale; scale is a power of ten, and part has no trailing zero. */
struct number {
	int64_t whole, part, scale;
};

static bool digit(char c)
{
	return c >= '0' && c <= '9';
}

static enum unit_fault read_part(const char **p, struct number *n)
{
	const char *start = *p;
	size_t len = strspn(start, "0123456789");

	if (len == 0)
		return UNIT_SYNTAX;
	*p += len;
	while (len > 0 && start[len - 1] == '0')
		len--;
	if (len > DIGITS_MAX)
		return UNIT_INEXACT;
	for (size_t i = 0; i < len; i++) {
		n->part = n->part * 10 + (start[i] - '0');
		n->scale *= 10;
	}
	return UNIT_OK;
}

static enum unit_fault read_number(const char **p, struct number *n)
{
	enum unit_fault fault = digit(**p) ? UNIT_OK : UNIT_SYNTAX;

	*n = (struct number){ .scale = 1 };
	for (; digit(**p); ++*p) {
		if (__builtin_mul_overflow(n->whole, 10, &n->whole) ||
		    __builtin_add_overflow(n->whole, **p - '0', &n->whole))
			return UNIT_RANGE;
	}
	if (fault == UNIT_OK && **p == '.') {
		++*p;
		fault = read_part(p, n);
	}
	return fault;
}

/* number * factor, if that is a whole number of 64 bits. */
static enum unit_fault multiply(const struct number *n, int64_t factor, int64_t *ret)
{
	/* part < 10^18, factor < 2^41 */
	__int128 part = (__int128)n->part * factor;
	int64_t value;

	if (part % n->scale != 0)
		return UNIT_INEXACT;
	if (__builtin_mul_overflow(n->whole, factor, &value) ||
	    __builtin_add_overflow(value, (int64_t)(part / n->scale), &value))
		return UNIT_RANGE;
	*ret = value;
	return UNIT_OK;
}

static enum unit_fault parse(const struct unit *units, size_t n_units, const char *text, int64_t *ret)
{
	struct number number;
	enum unit_fault fault = read_number(&text, &number);

	if (fault != UNIT_OK)
		return fault;
	text += strspn(text, " ");
	if (!*text)
		return UNIT_MISSING;
	for (size_t i = 0; i < n_units; i++) {
		if (strcmp(text, units[i].name) == 0)
			return multiply(&number, units[i].factor, ret);
	}
	return UNIT_UNKNOWN;
}

static const char *format(const struct unit *units, size_t n_units, int64_t value, char *out)
{
	size_t i = 0;

	/* The last unit is 1 and divides everything. */
	while (i + 1 < n_units && (value % units[i].factor != 0 || value < units[i].factor))
		i++;
	snprintf(out, UNIT_TEXT_SIZE, "%" PRId64 "%s", value / units[i].factor, units[i].name);
	return out;
}

#define N(array) (sizeof(array) / sizeof(array[0]))

enum unit_fault duration_parse(const char *text, int64_t *ret_ms)
{
	return parse(durations, N(durations), text, ret_ms);
}

enum unit_fault size_parse(const char *text, int64_t *ret_bytes)
{
	return parse(sizes, N(sizes), text, ret_bytes);
}

const char *duration_format(int64_t ms, char out[UNIT_TEXT_SIZE])
{
	return format(durations, N(durations), ms, out);
}

const char *size_format(int64_t bytes, char out[UNIT_TEXT_SIZE])
{
	return format(sizes, N(sizes), bytes, out);
}

enum unit_fault decimal_parse(const char *text, double *ret_number)
{
	struct number n;
	enum unit_fault fault = read_number(&text, &n);
	int64_t mantissa;

	if (fault != UNIT_OK)
		return fault;
	if (*text)
		return UNIT_UNKNOWN;
	/* Below 2^53 both are exact, and so the quotient is the nearest double. */
	if (__builtin_mul_overflow(n.whole, n.scale, &mantissa) ||
	    __builtin_add_overflow(mantissa, n.part, &mantissa) || mantissa > INT64_C(1) << 53)
		return n.part ? UNIT_INEXACT : UNIT_RANGE;
	*ret_number = (double)mantissa / (double)n.scale;
	return UNIT_OK;
}
