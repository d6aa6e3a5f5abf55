/* One exchange with a process: requests to its stdin, answers from its stdout, in one
 * loop that waits for both.  The worker's thread. */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "base/beat.h"
#include "base/clock.h"
#include "handle/talk.h"

#define KEEP (1u << 20)			/* bytes of memory that an empty buffer may keep */
#define PATIENCE_MS 15000		/* beyond the grace, for the supervisor to end a process */

/* Ends the process, and with that the exchange.  The text goes behind "the process". */
int talk_give_up(struct talk *t, enum order order, int code, const char *sqlstate, const char *text)
{
	t->given_up = true;
	err_set(&t->lost, code, "the process %s", text);
	snprintf(t->lost.sqlstate, sizeof(t->lost.sqlstate), "%s", sqlstate);
	slot_order(t->c, order, text);
	event_signal(&t->c->s->work);
	return code;
}

int talk_no_memory(struct talk *t)
{
	return talk_give_up(t, ORDER_TERM, STRAND_ENOMEM, "", "was ended: out of memory");
}

static int64_t deadline(const struct talk *t)
{
	int64_t since = t->answered_at;

	if (t->outstanding && t->x->requests[t->oldest].sent_at > since)
		since = t->x->requests[t->oldest].sent_at;
	return since + t->c->policy.timeout_ms * NSEC_PER_MSEC;
}

static int see_time(struct talk *t)
{
	char text[80];

	if ((!t->outstanding && !talk_waiting(t)) || clock_now() < deadline(t))
		return 0;
	snprintf(text, sizeof(text), "did not answer within %g s", (double)t->c->policy.timeout_ms / 1000);
	return talk_give_up(t, ORDER_TERM, STRAND_ETIMEOUT, SQLSTATE_HANDLER_SILENT, text);
}

static bool is_leaving(struct child *c)
{
	bool leaving;

	event_clear(&c->news);
	pthread_mutex_lock(&c->s->lock);
	leaving = c->state == CHILD_LEAVING;
	pthread_mutex_unlock(&c->s->lock);
	return leaving;
}

enum { IN, OUT, NEWS, STOP, NOW, N_FDS };

static int await(struct talk *t)
{
	struct child *c = t->c;
	struct pollfd fds[N_FDS] = {
		[IN] = { .fd = talk_waiting(t) ? c->process.in : -1, .events = POLLOUT },
		[OUT] = { .fd = c->process.out, .events = POLLIN },
		[NEWS] = { .fd = t->dying ? -1 : c->news.fd, .events = POLLIN },
		[STOP] = { .fd = t->stopping ? -1 : t->stop_fd, .events = POLLIN },
		[NOW] = { .fd = t->now_fd, .events = POLLIN },
	};
	int n = poll(fds, N_FDS, beat_left_ms(deadline(t)));

	beat_now();
	if (n <= 0)
		return 0;
	if (fds[NOW].revents)
		return talk_give_up(t, ORDER_KILL, STRAND_ESTOPPED, "", "was killed: strandd was told to leave at once");
	if (fds[STOP].revents) {
		t->stopping = true;
		talk_withdraw(t);
	}
	if (fds[NEWS].revents)
		t->dying = is_leaving(c);
	return 0;
}

static void converse(struct talk *t)
{
	/* First what it has written since the last exchange. */
	int ret = talk_read(t);

	while (!ret) {
		ret = talk_write(t);
		if (!ret && !t->outstanding && !talk_waiting(t) && !talk_may_send(t))
			break;
		if (!ret)
			ret = await(t);
		if (!ret)
			ret = talk_read(t);
		if (!ret)
			ret = see_time(t);
	}
}

static bool is_gone(struct child *c)
{
	bool gone;

	event_clear(&c->news);
	pthread_mutex_lock(&c->s->lock);
	gone = c->gone;
	pthread_mutex_unlock(&c->s->lock);
	return gone;
}

/* So that it is not held up by what nobody reads any more. */
static void discard(struct pollfd *out)
{
	char piece[LINE_READER_PIECE];
	ssize_t n = read(out->fd, piece, sizeof(piece));

	if (n == 0 || (n < 0 && errno != EAGAIN && errno != EINTR))
		out->fd = -1;
}

/* Until the process is gone with its group. */
static void await_end(struct talk *t)
{
	struct child *c = t->c;
	int64_t until = clock_after_ms(c->policy.grace_ms + PATIENCE_MS);
	struct pollfd fds[] = {
		{ .fd = c->news.fd, .events = POLLIN },
		{ .fd = c->process.out, .events = POLLIN },
		{ .fd = t->now_fd, .events = POLLIN },
	};

	while (!is_gone(c) && clock_now() < until) {
		int n = poll(fds, 3, beat_left_ms(until));

		beat_now();
		if (n > 0 && fds[1].revents)
			discard(&fds[1]);
		if (n > 0 && fds[2].revents) {
			fds[2].fd = -1;
			slot_order(c, ORDER_KILL, "");
			event_signal(&c->s->work);
		}
	}
}

/* How it died says more than that its stdout was closed. */
static void tell_ending(struct talk *t)
{
	struct child *c = t->c;
	char ending[sizeof(c->ending)], words[sizeof(c->words)];
	bool by_itself;

	pthread_mutex_lock(&c->s->lock);
	by_itself = c->by_itself;
	memcpy(ending, c->ending, sizeof(ending));
	memcpy(words, c->words, sizeof(words));
	pthread_mutex_unlock(&c->s->lock);
	if (t->lost.code != STRAND_ECONN || !by_itself)
		return;
	err_set(&t->lost, STRAND_ECONN, "the process %s%s%s%s", ending, *words ? ": \"" : "", words,
		*words ? "\"" : "");
	memcpy(t->lost.sqlstate, SQLSTATE_HANDLER_DIED, sizeof(t->lost.sqlstate));
}

/* Bytes of what was written that the process has not read, taken back: what is sent to
 * another one is not to be read by who has left the group, or is not dead yet.  Where
 * that cannot be done all counts as read. */
static uint64_t take_back(const struct talk *t)
{
	char path[40], piece[LINE_READER_PIECE];
	uint64_t left = 0;
	ssize_t n;
	int fd;

	snprintf(path, sizeof(path), "/proc/self/fd/%d", t->c->process.in);
	fd = open(path, O_RDONLY | O_NONBLOCK | O_CLOEXEC);
	while (fd >= 0 && ((n = read(fd, piece, sizeof(piece))) > 0 || (n < 0 && errno == EINTR)))
		left += n > 0 ? (uint64_t)n : 0;
	close_fd(&fd);
	return left < t->written ? left : t->written;
}

static bool has_read(const struct talk *t)
{
	int n = 0;

	return ioctl(t->c->process.in, FIONREAD, &n) < 0 || (uint64_t)n < t->written;
}

/* Of those that were written. */
static void tell_lost(struct talk *t, uint64_t read_to)
{
	for (size_t i = t->oldest; i < t->next; i++) {
		struct request *r = &t->x->requests[i];

		if (!talk_is_out(t, i) || r->begin >= read_to)
			continue;
		r->state = REQUEST_LOST;
		t->x->lost = t->lost;
	}
}

/* For the time of the exchange the process's stdin and stdout are ours. */
static bool hold(struct child *c)
{
	bool usable;

	pthread_mutex_lock(&c->s->lock);
	usable = slot_usable(c);
	c->held = usable;
	pthread_mutex_unlock(&c->s->lock);
	return usable;
}

static void let_go(struct talk *t, bool proven)
{
	struct child *c = t->c;
	bool wanted;

	pthread_mutex_lock(&c->s->lock);
	c->held = false;
	c->served += (unsigned)t->next;
	c->answered |= t->answered_at != 0;
	if (proven) {
		c->proven = true;
		c->failed_starts = 0;
		c->trouble.code = 0;
	}
	wanted = !slot_usable(c);
	pthread_mutex_unlock(&c->s->lock);
	if (wanted)
		event_signal(&c->s->work);
}

static void begin(struct exchange *x)
{
	x->lost = (struct err){ 0 };
	for (size_t i = 0; i < x->n; i++) {
		struct request *r = &x->requests[i];

		r->state = REQUEST_UNSENT;
		r->text = NULL;
		r->text_len = r->n_replies = 0;
		r->final = r->refused = false;
	}
}

static void end(struct talk *t)
{
	bool proven = has_read(t);

	if (t->given_up) {
		uint64_t read_to;

		await_end(t);
		read_to = t->written - take_back(t);
		proven = read_to > 0;
		tell_ending(t);
		tell_lost(t, read_to);
	} else if (t->in_closed) {
		slot_order(t->c, ORDER_FINISH, "closed its standard input");
	}
	if (t->c->out.size > KEEP)
		buf_release(&t->c->out);
	else
		buf_clear(&t->c->out);
	let_go(t, proven);
}

int child_exchange(struct child *c, struct exchange *x, int stop_fd, int now_fd, struct err *e)
{
	struct talk t = { .c = c, .x = x, .stop_fd = stop_fd, .now_fd = now_fd };

	begin(x);
	if (!hold(c))
		return 0;
	buf_clear(&c->out);
	converse(&t);
	end(&t);
	return t.lost.code == STRAND_ENOMEM ? err_set(e, STRAND_ENOMEM, "%s", t.lost.text) : 0;
}

void exchange_release(struct exchange *x)
{
	for (size_t i = 0; i < x->n; i++) {
		free(x->requests[i].text);
		x->requests[i].text = NULL;
	}
}
