#include "strandd/notify.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <systemd/sd-daemon.h>

#include "base/beat.h"
#include "base/clock.h"
#include "base/log.h"

#define EXTEND_MS 10000

void notify_init(struct notify *n)
{
	uint64_t usec = 0;

	*n = (struct notify){ 0 };
	if (sd_watchdog_enabled(0, &usec) <= 0)
		return;
	n->watchdog_ms = usec < 8000 ? 8 : (int64_t)(usec / 1000);
	beat_set_slice_ms((int)(n->watchdog_ms / 8 > BEAT_SLICE_MAX_MS ? BEAT_SLICE_MAX_MS : n->watchdog_ms / 8));
}

void notify_status(struct notify *n, const char *fmt, ...)
{
	char text[sizeof(n->status)];
	va_list args;

	va_start(args, fmt);
	vsnprintf(text, sizeof(text), fmt, args);
	va_end(args);
	if (!strcmp(text, n->status))
		return;
	memcpy(n->status, text, sizeof(text));
	sd_notifyf(0, "STATUS=%s", text);
}

void notify_ready(void)
{
	sd_notify(0, "READY=1");
}

void notify_reloading(void)
{
	sd_notifyf(0, "RELOADING=1\nMONOTONIC_USEC=%" PRId64, clock_now() / 1000);
}

void notify_stopping(struct notify *n)
{
	n->extend_at = 0;	/* what was asked for at the start is another time */
	sd_notify(0, "STOPPING=1");
}

void notify_extend(struct notify *n, int64_t left_ms)
{
	int64_t ms = left_ms < EXTEND_MS ? left_ms : EXTEND_MS;

	if (ms <= 0 || clock_now() < n->extend_at)
		return;
	n->extend_at = clock_after_ms(ms / 2);
	sd_notifyf(0, "EXTEND_TIMEOUT_USEC=%" PRId64, ms * 1000);
}

void notify_extend_anew(struct notify *n, int64_t left_ms)
{
	n->extend_at = 0;
	notify_extend(n, left_ms);
}

void notify_alive(struct notify *n)
{
	struct beat_silence silence;

	if (!n->watchdog_ms || clock_now() < n->alive_at)
		return;
	if (!beat_overdue(n->watchdog_ms * 3 / 4, &silence)) {
		if (n->late)
			log_info("every thread is heard of again");
		n->late = false;
		n->alive_at = clock_after_ms(n->watchdog_ms / 4);
		sd_notify(0, "WATCHDOG=1");
		return;
	}
	if (!n->late)
		log_error("thread %s has not been heard of for %" PRId64 " ms: no sign of life to the service"
			  " manager until it is", silence.name, silence.ms);
	n->late = true;
	n->alive_at = clock_after_ms(n->watchdog_ms / 8);
}

int notify_due(const struct notify *n, int ms)
{
	int left = n->watchdog_ms ? clock_left_ms(n->alive_at) : ms;

	return left < ms ? left : ms;
}
