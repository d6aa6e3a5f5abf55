/* Signs of life: does every thread still renew its waits?
 *
 * Every wait of ours is bounded and cut into slices (beat_left_ms, beat_set_slice_ms);
 * after each the waiting thread says beat_now(), one relaxed store.  So a thread is
 * heard of every second or two however long it waits: for a silent server, for a
 * handler of ten minutes, for work through an idle night.  One that is not heard of
 * hangs in something that has no bound, and nothing but a restart helps.
 *
 * What cannot be cut is the look-up of a host's name, in which libpq leaves a thread
 * to the system's resolver: beat_allow_ms() sets the beat ahead of time before it.
 * A resolver that takes longer than BEAT_RESOLVE_MS counts as hung.  While
 * all name servers are down, which no restart mends, glibc gives up on a name after
 * some 24 s where there are three of them, and tries one for each domain of the search
 * list and the bare one: 168 s with six domains.  So the bound is well above that.
 *
 * thread.c registers every thread that we start, so a thread needs nothing but
 * waits that are in base/event.h, pg/conn.h or queue/queue.h; one with a wait of its
 * own takes its timeout from beat_left_ms and says beat_now after it.
 * The list's mutex is a leaf: held when a thread begins and ends, and by the look.
 */
#ifndef STRANDD_BASE_BEAT_H
#define STRANDD_BASE_BEAT_H

#include <stdbool.h>
#include <stdint.h>

#define BEAT_RESOLVE_MS (5 * 60 * 1000)
#define BEAT_SLICE_MAX_MS 2000

struct beat_silence {
	char name[16];		/* the thread's */
	int64_t ms;		/* how long it has been silent */
};

/* By thread.c, around a thread's life. */
void beat_register(const char *name);
void beat_unregister(void);

void beat_now(void);			/* any thread, registered or not */
void beat_allow_ms(int64_t ms);		/* silence from now on is no fault for so long, or until beat_now */

/* clock_left_ms(deadline), cut to a slice: a timeout for poll(2). */
int beat_left_ms(int64_t deadline);

/* The longest slice, 1 to BEAT_SLICE_MAX_MS (the default); before threads start. */
void beat_set_slice_ms(int ms);

/* Any thread: is one silent for longer than `limit_ms`?  Then which, and for how
 * long; of several the longest. */
bool beat_overdue(int64_t limit_ms, struct beat_silence *ret_silence);

#endif
