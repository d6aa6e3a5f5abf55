#include "queue/sleep.h"

#include <poll.h>

#include "base/activity.h"
#include "base/beat.h"
#include "base/clock.h"

int sleep_on(const struct event *e, int64_t deadline, int stop_fd)
{
	struct pollfd fds[2] = {
		{ .fd = e->fd, .events = POLLIN },
		{ .fd = stop_fd, .events = POLLIN },	/* poll passes over -1 */
	};

	for (;;) {
		int left = clock_left_ms(deadline);
		int n = poll(fds, 2, beat_left_ms(deadline));

		beat_now();
		if (n > 0 && fds[1].revents)
			return STRAND_ESTOPPED;
		if (n > 0)
			return 0;
		/* A poll that fails (interrupted, no kernel memory) counts as
		 * one that saw nothing. */
		if (left == 0)
			return STRAND_ETIMEOUT;
	}
}

void rest_on(struct event *e, int64_t deadline, int stop_fd)
{
	activity_set("resting");
	(void)!sleep_on(e, deadline, stop_fd);
	event_clear(e);
}
