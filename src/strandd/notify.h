/* The service manager: what systemd is told, and its watchdog.
 *
 * sd_notify(3)'s protocol; without a NOTIFY_SOCKET every call does nothing.  The
 * main thread's alone, so that NotifyAccess=main is enough and a main thread that
 * hangs says nothing.
 *
 * Watchdog: WATCHDOG=1 goes out at each quarter of WATCHDOG_USEC, as long as every
 * thread was heard of (base/beat.h) within three of them; waits are cut to an eighth.
 * So a thread that hangs is noticed within WATCHDOG_USEC, and restarted by systemd
 * within two of them, and one that a busy machine keeps from running has most of the
 * time for itself.  A thread that is only late is told once in the log, and the
 * sign goes out as soon as it is back.
 */
#ifndef STRANDD_STRANDD_NOTIFY_H
#define STRANDD_STRANDD_NOTIFY_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"

struct notify {
	int64_t watchdog_ms;		/* 0: nobody watches */
	int64_t alive_at, extend_at;	/* clock_now() based: when the next one is due */
	bool late;			/* a thread is, and the log has it */
	char status[300];		/* as told last */
};

/* Reads the environment, and sets the slice of waits: before threads start. */
void notify_init(struct notify *n);

/* STATUS=, if it is another one than last time. */
void notify_status(struct notify *n, const char *fmt, ...) PRINTF_LIKE(2, 3);

void notify_ready(void);
void notify_reloading(void);
void notify_stopping(struct notify *n);

/* Asks for time, at most `left_ms` from now and at most some seconds at once;
 * renewed when it is called again and the last one is half over. */
void notify_extend(struct notify *n, int64_t left_ms);
void notify_extend_anew(struct notify *n, int64_t left_ms);	/* whatever was asked for before */

/* The watchdog, if it is due.  notify_due says when to call again, in
 * milliseconds, at most `ms`. */
void notify_alive(struct notify *n);
int notify_due(const struct notify *n, int ms);

#endif
