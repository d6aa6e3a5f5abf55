/* Statements on a link and their answers: the other half of link.h. */
#include "libstrand/link.h"

#include <errno.h>
#include <poll.h>
#include <string.h>

#include "base/clock.h"
#include "pg/result.h"

int link_wait(struct link *l, int stop_fd, int64_t deadline)
{
	struct pollfd fds[2] = {
		{ .fd = l->pg ? PQsocket(l->pg) : -1, .events = l->events },
		{ .fd = stop_fd, .events = POLLIN },
	};

	for (;;) {
		int n = poll(fds, 2, deadline == INT64_MAX ? -1 : clock_left_ms(deadline));

		if (n > 0 && fds[1].revents)
			return STRAND_ESTOPPED;
		if (n > 0)
			return 0;
		if (n == 0 || errno != EINTR)
			return STRAND_ETIMEOUT;
		if (clock_now() >= deadline)
			return STRAND_ETIMEOUT;
	}
}

int link_send(struct link *l, const char *sql, int n_values, const char *const *values, struct err *e)
{
	return PQsendQueryParams(l->pg, sql, n_values, NULL, values, NULL, NULL, 0) ? 0 : link_lost(l, e);
}

int link_send_script(struct link *l, const char *sql, struct err *e)
{
	return PQsendQuery(l->pg, sql) ? 0 : link_lost(l, e);
}

/* With the detail: whoever wrote a strand wants to know which key is taken. */
static int answer_error(const PGresult *res, struct err *e)
{
	int ret = result_error(res, e);
	const char *detail = ret ? PQresultErrorField(res, PG_DIAG_MESSAGE_DETAIL) : NULL;
	struct err first = *e;

	if (!detail)
		return ret;
	err_set(e, ret, "%s: %s", first.text, detail);
	memcpy(e->sqlstate, first.sqlstate, sizeof(e->sqlstate));
	return ret;
}

/* While our bytes do not fit into the socket the server may be waiting for us to read,
 * so both directions are served. */
static int flush(struct link *l, struct err *e)
{
	int left = PQflush(l->pg);

	if (left < 0)
		return link_lost(l, e);
	l->events = left ? POLLIN | POLLOUT : POLLIN;
	return PQconsumeInput(l->pg) ? 0 : link_lost(l, e);
}

/* One result is wanted; an error among several wins. */
static void keep(struct link *l, PGresult *res)
{
	struct err e = { 0 };

	if (answer_error(res, &e) && !l->bad.code)
		l->bad = e;
	PQclear(l->last);
	l->last = res;
}

/* All results are there. */
static int finish(struct link *l, PGresult **ret_result, struct err *e)
{
	int bad = l->bad.code;

	if (bad && e)
		*e = l->bad;
	if (!bad && ret_result)
		*ret_result = l->last;
	else
		PQclear(l->last);
	l->last = NULL;
	l->bad.code = 0;
	if (bad == STRAND_ECONN)
		link_drop(l);
	return bad;
}

int link_take(struct link *l, PGresult **ret_result, struct err *e)
{
	int ret = flush(l, e);

	while (!ret && !PQisBusy(l->pg)) {
		PGresult *res = PQgetResult(l->pg);

		if (!res)
			return finish(l, ret_result, e);
		keep(l, res);
	}
	return ret ? ret : LINK_AGAIN;
}

int link_look(struct link *l, struct err *e)
{
	l->events = POLLIN;
	return PQconsumeInput(l->pg) ? 0 : link_lost(l, e);
}

static int no_answer(struct link *l, int code, struct err *e)
{
	link_drop(l);
	return err_set(e, code, "no answer from the server in time");
}

int link_query(struct link *l, const char *sql, int n_values, const char *const *values,
	       int64_t deadline, PGresult **ret_result, struct err *e)
{
	int ret = link_send(l, sql, n_values, values, e);

	while (!ret && (ret = link_take(l, ret_result, e)) == LINK_AGAIN) {
		ret = link_wait(l, -1, deadline);
		if (ret)
			return no_answer(l, ret, e);
	}
	return ret;
}

int link_batch_begin(struct link *l, struct err *e)
{
	return PQenterPipelineMode(l->pg) ? 0 : link_lost(l, e);
}

/* Takes what has arrived: 0 when the end of the batch was among it. */
static int take_batch(struct link *l, struct err *e)
{
	int ret = flush(l, e);

	while (!ret && !PQisBusy(l->pg)) {
		PGresult *res = PQgetResult(l->pg);

		if (PQstatus(l->pg) == CONNECTION_BAD) {
			PQclear(res);
			return link_lost(l, e);
		}
		if (res && PQresultStatus(res) == PGRES_PIPELINE_SYNC) {
			PQclear(res);
			return PQexitPipelineMode(l->pg) ? 0 : link_lost(l, e);
		}
		/* NULL stands between the answers of two statements. */
		if (res)
			keep(l, res);
	}
	return ret ? ret : LINK_AGAIN;
}

int link_batch_run(struct link *l, int64_t deadline, PGresult **ret_result, struct err *e)
{
	int ret = PQpipelineSync(l->pg) ? LINK_AGAIN : link_lost(l, e);

	while (ret == LINK_AGAIN && (ret = take_batch(l, e)) == LINK_AGAIN) {
		ret = link_wait(l, -1, deadline);
		if (ret)
			return no_answer(l, ret, e);
		ret = LINK_AGAIN;
	}
	return ret ? ret : finish(l, ret_result, e);
}
