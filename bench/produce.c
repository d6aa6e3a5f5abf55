/* One producer at a steady rate and the listener that times the answers.
 *
 * Both ends on one thread and one clock.  A strand's line on standard output:
 *     <due> <committed> <answered>
 * in nanoseconds from the start: when its INSERT was to be sent, when the
 * INSERT's answer was here (it is its own transaction), and when the
 * notification of its reply was here; 0 = no answer came.  Strand n, counted from
 * --first, is AD_<n in 12 digits>, and the handler names its reply DM_<the same>.
 */
#include <argp.h>
#include <poll.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <libpq-fe.h>

#include "base/clock.h"
#include "base/err.h"

#define LINGER_MS 10000		/* wait for the last answers */

struct produce_args {
	const char *dbname, *channel, *pad;
	int rate, strands, first;
	bool high;
};

struct times {
	int64_t due, committed, answered;
};

struct producer {
	struct produce_args args;
	PGconn *writer, *listener;
	struct times *times;
	int sent, committed, answered;
	bool busy;		/* an INSERT is under way */
	int64_t start;
};

static void __attribute__((noreturn)) die(const char *what, const char *why)
{
	fprintf(stderr, "produce: %s: %s\n", what, why);
	exit(EXIT_FAULT);
}

static PGconn *connect_to(const char *dbname, const char *sql)
{
	PGconn *pg = PQconnectdb(dbname);
	PGresult *res;

	if (PQstatus(pg) != CONNECTION_OK)
		die("cannot connect", PQerrorMessage(pg));
	res = PQexec(pg, sql);
	if (PQresultStatus(res) != PGRES_COMMAND_OK)
		die(sql, PQerrorMessage(pg));
	PQclear(res);
	return pg;
}

static void send_insert(struct producer *p)
{
	const char *values[2] = { NULL, p->args.pad };
	char id[24];

	snprintf(id, sizeof(id), "AD_%012d", p->args.first + p->sent);
	values[0] = id;
	if (!PQsendQueryPrepared(p->writer, "ins", 2, values, NULL, NULL, 0))
		die("INSERT", PQerrorMessage(p->writer));
	p->sent++;
	p->busy = true;
}

static void read_writer(struct producer *p, int64_t now)
{
	PGresult *res;

	if (!PQconsumeInput(p->writer))
		die("INSERT", PQerrorMessage(p->writer));
	while (p->busy && !PQisBusy(p->writer)) {
		res = PQgetResult(p->writer);
		if (!res) {
			p->busy = false;
			break;
		}
		if (PQresultStatus(res) != PGRES_COMMAND_OK)
			die("INSERT", PQresultErrorMessage(res));
		PQclear(res);
		p->times[p->committed++].committed = now;
	}
}

static void read_listener(struct producer *p, int64_t now)
{
	PGnotify *note;

	if (!PQconsumeInput(p->listener))
		die("LISTEN", PQerrorMessage(p->listener));
	while ((note = PQnotifies(p->listener)) != NULL) {
		int n = strncmp(note->extra, "DM_", 3) == 0 ? atoi(note->extra + 3) - p->args.first : -1;

		if (n >= 0 && n < p->args.strands && p->times[n].answered == 0) {
			p->times[n].answered = now;
			p->answered++;
		}
		PQfreemem(note);
	}
}

/* Until every strand is answered, or nothing more comes. */
static void run(struct producer *p)
{
	int64_t gap = NSEC_PER_SEC / p->args.rate, give_up = INT64_MAX;
	struct pollfd fds[2] = {
		{ .fd = PQsocket(p->writer), .events = POLLIN },
		{ .fd = PQsocket(p->listener), .events = POLLIN },
	};

	p->start = clock_now();
	for (int i = 0; i < p->args.strands; i++)
		p->times[i].due = i * gap;
	/* The last reply may be here before the last INSERT's own answer. */
	while ((p->answered < p->args.strands || p->busy) && clock_now() < give_up) {
		struct timespec wait = { .tv_sec = 1 };
		int64_t now;

		if (!p->busy && p->sent < p->args.strands) {
			int64_t left = p->start + p->times[p->sent].due - clock_now();

			if (left <= 0) {
				send_insert(p);
				if (p->sent == p->args.strands)
					give_up = clock_after_ms(LINGER_MS);
				continue;
			}
			wait = (struct timespec){ .tv_sec = left / NSEC_PER_SEC, .tv_nsec = left % NSEC_PER_SEC };
		}
		/* To the nanosecond: poll's millisecond is half of the rate's gap. */
		if (ppoll(fds, 2, &wait, NULL) <= 0)
			continue;
		now = clock_now() - p->start;
		if (fds[1].revents)
			read_listener(p, now);
		if (fds[0].revents)
			read_writer(p, now);
	}
}

static error_t parse_option(int key, char *arg, struct argp_state *state)
{
	struct produce_args *a = state->input;

	switch (key) {
	case 'd':
		a->dbname = arg;
		return 0;
	case 'c':
		a->channel = arg;
		return 0;
	case 'p':
		a->pad = arg;
		return 0;
	case 'r':
		a->rate = atoi(arg);
		return 0;
	case 'n':
		a->strands = atoi(arg);
		return 0;
	case 'f':
		a->first = atoi(arg);
		return 0;
	case 'h':
		a->high = true;
		return 0;
	case ARGP_KEY_END:
		if (a->rate < 1 || a->strands < 1)
			argp_error(state, "--rate and --strands are at least 1");
		return 0;
	default:
		return ARGP_ERR_UNKNOWN;
	}
}

int main(int argc, char **argv)
{
	static const struct argp_option options[] = {
		{ "dbname", 'd', "CONNINFO", 0, "where to (libpq's defaults)", 0 },
		{ "channel", 'c', "NAME", 0, "where the replies are announced (alpha_decision_feedback)", 0 },
		{ "plan", 'p', "JSON", 0, "the trading plan of every strand ({})", 0 },
		{ "rate", 'r', "N", 0, "strands a second (500)", 0 },
		{ "strands", 'n', "N", 0, "how many (10000)", 0 },
		{ "first", 'f', "N", 0, "the first one's number (0)", 0 },
		{ "high", 'h', NULL, 0, "all bear priority:high", 0 },
		{ 0 }
	};
	static const struct argp argp = { .options = options, .parser = parse_option,
		.doc = "Inserts strands at a steady rate and times their replies." };
	struct producer p = { .args = { .dbname = "", .channel = "alpha_decision_feedback", .pad = "{}",
					.rate = 500, .strands = 10000 } };
	char sql[512];

	argp_parse(&argp, argc, argv, 0, NULL, &p.args);
	snprintf(sql, sizeof(sql), "LISTEN \"%.200s\"", p.args.channel);
	p.listener = connect_to(p.args.dbname, sql);
	snprintf(sql, sizeof(sql), "PREPARE ins(text, jsonb) AS INSERT INTO AD_strands"
		 " (id, kind, symbol, timeframe, trading_plan, tags)"
		 " VALUES ($1, 'signal', 'SPX', '1d', $2, '[\"dm:evaluate_plan\"%s]')",
		 p.args.high ? ", \"priority:high\"" : "");
	p.writer = connect_to(p.args.dbname, sql);
	p.times = calloc((size_t)p.args.strands, sizeof(*p.times));
	if (!p.times)
		die("calloc", "out of memory");
	run(&p);
	for (int i = 0; i < p.args.strands; i++)
		printf("%lld %lld %lld\n", (long long)p.times[i].due, (long long)p.times[i].committed,
		       (long long)p.times[i].answered);
	free(p.times);
	PQfinish(p.writer);
	PQfinish(p.listener);
	return p.answered == p.args.strands ? EXIT_OK : EXIT_FAULT;
}
