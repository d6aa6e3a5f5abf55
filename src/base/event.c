#include "base/event.h"

#include <errno.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "base/beat.h"
#include "base/clock.h"

int event_init(struct event *e)
{
	int fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);

	if (fd < 0)
		return STRAND_ESYS;
	e->fd = fd;
	return 0;
}

void event_release(struct event *e)
{
	if (e->fd >= 0)
		close(e->fd);
	e->fd = -1;
}

void event_signal(struct event *e)
{
	int saved = errno;	/* a signal handler must not disturb it */
	const uint64_t one = 1;

	/* EAGAIN: the count is at its end, so it is signalled already. */
	while (write(e->fd, &one, sizeof(one)) < 0 && errno == EINTR)
		;
	errno = saved;
}

void event_clear(struct event *e)
{
	uint64_t count;

	/* EAGAIN: it was not signalled. */
	while (read(e->fd, &count, sizeof(count)) < 0 && errno == EINTR)
		;
}

int event_wait(struct event *e, int64_t deadline)
{
	struct pollfd p = { .fd = e->fd, .events = POLLIN };
	int n;

	for (;;) {
		n = poll(&p, 1, beat_left_ms(deadline));
		beat_now();
		if (n > 0)
			return 0;
		if (n == 0 && clock_left_ms(deadline) == 0)
			return STRAND_ETIMEOUT;
		if (n < 0 && errno != EINTR)
			return STRAND_ESYS;
	}
}
