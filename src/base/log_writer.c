#include "base/log_writer.h"

#include <errno.h>
#include <limits.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/event.h"
#include "base/fold.h"
#include "base/tsan.h"

#define SWEEP_MS 1000
#define PATIENCE_MS 500		/* of who writes itself, for a reader that stalls */
#define END_MS 2000		/* for what is left when the process ends */

static struct cds_wfcq_head head;
static struct cds_wfcq_tail tail;
static _Atomic size_t queued;		/* relaxed: a bound, not an order */
static _Atomic uint64_t lost;		/* relaxed: lines; the queue was full, or no memory */

/* Not a thread of thread.c: those are expected to renew their waits, and this one may
 * be held up for as long as it likes. */
static pthread_t thread;
static struct event work = { .fd = -1 };
static _Atomic bool running;
static _Atomic int64_t end_at;		/* clock_now() based; INT64_MAX: serve */

/* The writing thread's own. */
static uint64_t failed;			/* lines; `why` says the last one's errno */
static int why;

static int64_t end_of_log(void)
{
	/* relaxed: a number on its own; log_stop's event orders */
	return atomic_load_explicit(&end_at, memory_order_relaxed);
}

bool log_writer_runs(void)
{
	/* acquire: the queue is there */
	return atomic_load_explicit(&running, memory_order_acquire);
}

void log_writer_lost(void)
{
	atomic_fetch_add_explicit(&lost, 1, memory_order_relaxed);
}

/* As much as goes without waiting beyond `deadline`; -EAGAIN: not all of it did.  A
 * pipe that is ready takes PIPE_BUF bytes at once. */
static int write_some(const struct buf *line, size_t *done, int64_t deadline)
{
	struct pollfd fd = { .fd = STDERR_FILENO, .events = POLLOUT };

	while (*done < line->len) {
		size_t left = line->len - *done;
		ssize_t n;
		if (poll(&fd, 1, clock_left_ms(deadline)) == 0)
			return -EAGAIN;
		n = write(STDERR_FILENO, line->data + *done, left < PIPE_BUF ? left : PIPE_BUF);
		if (n < 0 && errno != EINTR && errno != EAGAIN)
			return -errno;
		*done += n > 0 ? (size_t)n : 0;
		if (n < 0 && clock_now() >= deadline)
			return -EAGAIN;
	}
	return 0;
}

/* Frees the record.  0, or a negative errno value: the line is lost.  In slices,
 * because the end may be set while the thread waits. */
static int write_out(struct log_record *r, bool in_thread)
{
	static _Atomic bool torn;	/* relaxed: one writer at a time, or nearly so */
	int64_t until = clock_after_ms(PATIENCE_MS);
	struct buf line = BUF_INIT;
	size_t done = 0;
	int ret = 0;

	buf_init(&line);
	if (atomic_load_explicit(&torn, memory_order_relaxed))
		buf_add(&line, "\n", 1);
	if (!log_render(r, &line)) {
		ret = line.failed ? -ENOMEM : -EAGAIN;
		while (ret == -EAGAIN) {
			int64_t end = in_thread ? end_of_log() : until, slice = clock_after_ms(100);
			ret = write_some(&line, &done, end < slice ? end : slice);
			if (clock_now() >= end)
				break;
		}
		if (done)
			atomic_store_explicit(&torn, done < line.len, memory_order_relaxed);
	}
	buf_release(&line);
	free(r);
	return ret;
}

void log_writer_put(struct log_record *r)
{
	if (!log_writer_runs()) {
		(void)write_out(r, false);
		return;
	}
	if (atomic_fetch_add_explicit(&queued, 1, memory_order_relaxed) >= LOG_QUEUE_LINES) {
		atomic_fetch_sub_explicit(&queued, 1, memory_order_relaxed);
		log_writer_lost();
		free(r);
		return;
	}
	cds_wfcq_node_init(&r->node);
	HANDOVER_GIVE(r);
	/* The thread looks again by itself unless it found the queue empty. */
	if (!cds_wfcq_enqueue(&head, &tail, &r->node))
		event_signal(&work);
}

/* The node is a record's first member. */
static struct log_record *take(void)
{
	struct cds_wfcq_node *node = __cds_wfcq_dequeue_blocking(&head, &tail);
	struct log_record *r = (struct log_record *)(void *)node;

	if (!r)
		return NULL;
	HANDOVER_TAKE(r);
	atomic_fetch_sub_explicit(&queued, 1, memory_order_relaxed);
	return r;
}

static void write_line(struct log_record *r)
{
	int ret = write_out(r, true);

	if (!ret)
		return;
	failed++;
	why = -ret;
}

static void tell_folded(struct log_record *like, uint64_t more, int64_t seconds)
{
	struct log_fields fields = { .route = like->route, .source = like->source, .sqlstate = like->sqlstate };
	char text[LOG_MESSAGE_BYTES + 2];
	struct log_record *r;

	snprintf(text, sizeof(text), "%llu more like this in the last %lld s: %s", (unsigned long long)more,
		 (long long)seconds, like->message);
	r = log_record_new(like->level, &fields, text);
	free(like);
	if (!r) {
		log_writer_lost();
		return;
	}
	r->more = more;
	write_line(r);
}

/* True: `n` lines that are missing are told of, or there are none. */
static bool tell_missing(uint64_t n, const char *what, const char *reason)
{
	char text[160];
	struct log_record *r;

	if (!n)
		return true;
	snprintf(text, sizeof(text), "%llu lines of the log %s: %s", (unsigned long long)n, what, reason);
	r = log_record_new(LOG_LEVEL_WARNING, NULL, text);
	return r && write_out(r, true) == 0;
}

/* Tried once; if that does not get through either, the next time. */
static void tell_all_missing(void)
{
	uint64_t n = atomic_exchange_explicit(&lost, 0, memory_order_relaxed);

	if (!tell_missing(n, "were dropped", "they came faster than they were read"))
		atomic_fetch_add_explicit(&lost, n, memory_order_relaxed);
	else if (tell_missing(failed, "could not be written", strerrordesc_np(why)))
		failed = 0;
}

/* Returns whether something is left that wants a look later. */
static bool write_all(bool end)
{
	struct log_record *r;
	bool left;

	while ((r = take()))
		write_line(r);
	left = fold_sweep(clock_now(), end, tell_folded);
	tell_all_missing();
	return left || failed;
}

static void *writer_main(void *arg)
{
	struct pollfd fd = { .fd = work.fd, .events = POLLIN };

	(void)arg;
	pthread_setname_np(pthread_self(), "log");
	for (;;) {
		/* acquire: what was logged before log_stop is found */
		bool end = atomic_load_explicit(&end_at, memory_order_acquire) != INT64_MAX;
		bool left = write_all(end);
		if (end)
			return NULL;
		(void)!poll(&fd, 1, left ? SWEEP_MS : -1);
		event_clear(&work);
	}
}

int log_start(struct err *e)
{
	static bool at_exit;
	sigset_t all, old;
	int ret;

	cds_wfcq_init(&head, &tail);
	if (event_init(&work))
		return err_set(e, STRAND_ESYS, "no event descriptor for the log");
	/* relaxed: the thread is not started yet */
	atomic_store_explicit(&end_at, INT64_MAX, memory_order_relaxed);
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &old);
	ret = pthread_create(&thread, NULL, writer_main, NULL);
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	if (ret) {
		event_release(&work);
		return err_set(e, STRAND_ESYS, "cannot start thread \"log\": %s", strerror(ret));
	}
	/* release: pairs with log_writer_runs */
	atomic_store_explicit(&running, true, memory_order_release);
	if (!at_exit)
		at_exit = atexit(log_stop) == 0;
	return 0;
}

void log_stop(void)
{
	struct timespec until;

	/* acq_rel: once only, and nothing is queued from here on but by who is doing so */
	if (!atomic_exchange_explicit(&running, false, memory_order_acq_rel))
		return;
	/* release: pairs with writer_main */
	atomic_store_explicit(&end_at, clock_after_ms(END_MS), memory_order_release);
	event_signal(&work);
	clock_gettime(CLOCK_REALTIME, &until);
	until.tv_sec += 2 * END_MS / 1000;
	/* Stuck in the kernel: it ends with the process. */
	if (pthread_timedjoin_np(thread, NULL, &until))
		return;
	write_all(true);	/* of those who were about to queue a line */
	event_release(&work);
}
