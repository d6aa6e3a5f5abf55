#include "base/clock.h"

#include <limits.h>
#include <time.h>

int64_t clock_now(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (int64_t)ts.tv_sec * NSEC_PER_SEC + ts.tv_nsec;
}

int64_t clock_after_ms(int64_t ms)
{
	int64_t span, deadline;

	/* A bound too large to count is as good as none. */
	if (__builtin_mul_overflow(ms, NSEC_PER_MSEC, &span) ||
	    __builtin_add_overflow(clock_now(), span, &deadline))
		return ms < 0 ? INT64_MIN : INT64_MAX;
	return deadline;
}

int clock_left_ms(int64_t deadline)
{
	int64_t now = clock_now();
	int64_t ms;

	if (deadline <= now)
		return 0;
	/* now is never negative, so the difference cannot overflow. */
	ms = (deadline - now - 1) / NSEC_PER_MSEC + 1;
	return ms > INT_MAX ? INT_MAX : (int)ms;
}
