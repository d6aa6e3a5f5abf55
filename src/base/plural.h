/* Counts for people: printf("%zu route%s", n, plural(n)) is "1 route", "2 routes". */
#ifndef STRANDD_BASE_PLURAL_H
#define STRANDD_BASE_PLURAL_H

#include <stdint.h>

static inline const char *plural(uint64_t n)
{
	return n == 1 ? "" : "s";
}

#endif
