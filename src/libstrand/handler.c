#include "strand/handler.h"

#include <errno.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "base/clock.h"
#include "libstrand/replies.h"
#include "libstrand/request.h"

static struct stream stream = { .in = -1, .out = -1 };
static atomic_flag was_run = ATOMIC_FLAG_INIT;
/* Relaxed: the handler of SIGTERM and the loop that looks are one thread, or the
 * eventfd orders them. */
static _Atomic int term_fd = -1;
static _Atomic int told_to_end;

static void on_term(int number)
{
	uint64_t one = 1;
	int code = errno;

	(void)number;
	atomic_store_explicit(&told_to_end, 1, memory_order_relaxed);
	if (write(atomic_load_explicit(&term_fd, memory_order_relaxed), &one, sizeof(one)) < 0) {
		/* It is full: whoever waits is awake already. */
	}
	errno = code;
}

/* The rest of a call interrupted by the signal goes on: the strand is finished. */
static int catch_term(struct sigaction *ret_before, struct err *e)
{
	struct sigaction action = { .sa_handler = on_term, .sa_flags = SA_RESTART };
	int fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);

	if (fd < 0)
		return err_set(e, STRAND_ESYS, "eventfd: %s", strerror(errno));
	atomic_store_explicit(&told_to_end, 0, memory_order_relaxed);
	atomic_store_explicit(&term_fd, fd, memory_order_relaxed);
	sigaction(SIGTERM, &action, ret_before);
	return 0;
}

static void release_term(const struct sigaction *before)
{
	int fd = atomic_load_explicit(&term_fd, memory_order_relaxed);

	sigaction(SIGTERM, before, NULL);
	atomic_store_explicit(&term_fd, -1, memory_order_relaxed);
	close(fd);
}

static void say(const struct err *e)
{
	dprintf(STDERR_FILENO, "libstrand: %s\n", e->text);
}

static int handle(struct request *request, struct strand_replies *replies, strand_handler_fn *fn, void *arg,
		  struct err *e)
{
	int64_t began = clock_now();
	int ret;

	replies_begin(replies, &request->strand);
	ret = replies_end(replies, fn(&request->strand, replies, arg), e);
	view_forget(&request->strand);
	return ret ? ret : stream_answered(&stream, began, replies->flushed, e);
}

static bool is_told(void)
{
	return atomic_load_explicit(&told_to_end, memory_order_relaxed);
}

static bool is_blank(const char *line)
{
	return !line[strspn(line, " \t\r")];
}

static int serve(strand_handler_fn *fn, void *arg, struct err *e)
{
	struct request request = { 0 };
	struct strand_replies replies;
	int ret = 1, end;

	replies_init(&replies, &stream);
	while (ret > 0 && !is_told()) {
		char *line;
		size_t len;

		ret = stream_line(&stream, atomic_load_explicit(&term_fd, memory_order_relaxed), &line, &len, e);
		if (ret <= 0 || is_blank(line))
			continue;
		ret = request_read(&request, line, len, e);
		if (!ret)
			ret = handle(&request, &replies, fn, arg, e);
		ret = ret ? ret : 1;
	}
	replies_release(&replies);
	request_release(&request);
	/* Whatever ends it: what was handled was handled. */
	end = stream_flush(&stream, ret < 0 ? NULL : e);
	if (!ret && !end && !is_told() && stream.to > stream.from)
		say(&(struct err){ .text = "the input ended within a line, which is dropped" });
	return ret < 0 ? ret : end;
}

static int run(strand_handler_fn *fn, void *arg, struct err *e)
{
	struct sigaction before;
	int ret = stream_move_output(&stream, e);

	if (!ret)
		ret = stream_move_input(&stream, e);
	if (!ret)
		ret = catch_term(&before, e);
	if (ret)
		return ret;
	ret = serve(fn, arg, e);
	release_term(&before);
	return ret;
}

int strand_handler_run(strand_handler_fn *fn, void *arg)
{
	struct err e = { 0 };
	int ret;

	/* The descriptors are gone after the first time. */
	if (atomic_flag_test_and_set(&was_run))
		return STRAND_EINVAL;
	ret = run(fn, arg, &e);
	if (ret)
		say(&e);
	stream_close(&stream);
	return ret;
}

int strand_handler_ready(void)
{
	struct err e;
	int ret = stream_move_output(&stream, &e);

	if (!ret) {
		buf_adds(&stream.answers, "{\"ready\":true}\n");
		ret = stream_flush(&stream, &e);
	}
	if (ret)
		say(&e);
	return ret;
}
