#include "base/backoff.h"

#include <sys/random.h>

int64_t backoff_ms(unsigned failures, int64_t first_ms, int64_t cap_ms)
{
	unsigned doublings = failures ? failures - 1 : 0;
	int64_t wait = first_ms;
	uint32_t random = 0;

	while (doublings-- && wait < cap_ms)
		wait *= 2;
	if (wait > cap_ms)
		wait = cap_ms;
	if (getrandom(&random, sizeof(random), GRND_NONBLOCK) < 0)
		random = UINT32_MAX / 2;
	return wait / 2 + (wait - wait / 2) * (int64_t)(random >> 1) / INT32_MAX;
}
