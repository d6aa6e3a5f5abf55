#include "pg/wait.h"

#include <errno.h>
#include <poll.h>
#include <string.h>

#include "base/beat.h"
#include "base/clock.h"
#include "pg/result.h"

int wait_socket(struct conn *c, short events, int64_t deadline)
{
	struct pollfd fds[2] = {
		{ .fd = PQsocket(c->pg), .events = events },
		{ .fd = c->stop_fd, .events = POLLIN },
	};

	for (;;) {
		int n = poll(fds, 2, beat_left_ms(deadline));

		beat_now();
		c->used_at = clock_now();
		if (n > 0 && fds[0].revents)
			return 0;
		if (n > 0)
			return STRAND_ESTOPPED;
		if (n == 0 && c->used_at >= deadline)
			return STRAND_ETIMEOUT;
		if (n < 0 && errno != EINTR)
			return STRAND_ETIMEOUT;
	}
}

int conn_lost(struct conn *c, struct err *e)
{
	const char *why = PQerrorMessage(c->pg);

	c->usable = false;
	return err_set(e, STRAND_ECONN, "connection lost: %.*s",
		       *why ? (int)strcspn(why, "\n") : 25, *why ? why : "closed by the other side");
}

static int give_up(struct conn *c, int code, struct err *e)
{
	c->usable = false;
	return err_set(e, code, code == STRAND_ETIMEOUT ? "no answer from the server in time"
							: "told to stop");
}

/* While our bytes do not fit into the socket the server may be waiting for us
 * to read, so both directions are served. */
static int flush(struct conn *c, int64_t deadline, struct err *e)
{
	int left, ret;

	while ((left = PQflush(c->pg)) > 0) {
		ret = wait_socket(c, POLLIN | POLLOUT, deadline);
		if (ret)
			return give_up(c, ret, e);
		if (!PQconsumeInput(c->pg))
			return conn_lost(c, e);
	}
	return left < 0 ? conn_lost(c, e) : 0;
}

/* What the roster says of a connection that waits for nothing. */
static enum roster_state at_rest(const struct conn *c)
{
	if (!c->usable)
		return ROSTER_BROKEN;
	switch (PQtransactionStatus(c->pg)) {
	case PQTRANS_IDLE:
		return ROSTER_IDLE;
	case PQTRANS_INTRANS:
		return ROSTER_IN_TRANSACTION;
	case PQTRANS_INERROR:
		return ROSTER_FAILED_TRANSACTION;
	default:
		return ROSTER_WAITING;
	}
}

static int await(struct conn *c, int64_t deadline, PGresult **ret_result, struct err *e)
{
	int ret = flush(c, deadline, e);

	while (!ret && PQisBusy(c->pg)) {
		ret = wait_socket(c, POLLIN, deadline);
		if (ret)
			return give_up(c, ret, e);
		if (!PQconsumeInput(c->pg))
			return conn_lost(c, e);
	}
	if (!ret)
		*ret_result = PQgetResult(c->pg);
	return ret;
}

int wait_result(struct conn *c, int64_t deadline, PGresult **ret_result, struct err *e)
{
	int ret;

	roster_state(c->entry, ROSTER_WAITING, clock_now());
	ret = await(c, deadline, ret_result, e);
	roster_state(c->entry, at_rest(c), c->used_at);
	return ret;
}

int answer_error(struct conn *c, const PGresult *res, struct err *e)
{
	int ret = result_error(res, e);

	if (ret == STRAND_ECONN)
		c->usable = false;
	return ret;
}
