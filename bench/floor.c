/* The floor of strandd's speed: the leanest program that issues the very same
 * claim, handler and reply statements from as many threads.
 *
 * No queue, no in-flight set, no scan, no retry, no counters: the ids are read
 * before the clock starts and handed out by one atomic cursor.  The texts of the
 * statements come from strandd's own library, so receipts and every safeguard
 * in them are kept.  Any surprise ends the program.
 *
 * With --listen it answers notifications on one connection and one thread: the
 * floor of latency.  It takes what has been announced by then, mostly one strand;
 * strictly one a transaction (--batch 1) falls behind for good when the machine
 * is busy for a moment.
 */
#include <argp.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <libpq-fe.h>

#include "base/buf.h"
#include "base/clock.h"
#include "base/thread.h"
#include "conf/conf.h"
#include "pg/array.h"
#include "pg/conn.h"
#include "strand/route.h"
#include "work/session.h"

#include "floor_process.h"

#define CONNECT_MS 10000
#define IDLE_IN_TRANSACTION_MS 10000	/* as strandd sets it */
#define MAX_WORKERS 64
#define MAX_LISTEN_BATCH 100

struct floor_args {
	const char *config;
	int workers, batch;
	bool listen;
};

struct floor {
	struct floor_args args;
	struct conf *conf;
	struct conn_target target;
	struct route_table *routes;
	const struct route *route;	/* the first one configured */
	char **ids;
	size_t n_ids;
	_Atomic size_t next;
	pthread_barrier_t ready;
};

struct floor_worker {
	struct floor *f;
	struct thread thread;
	struct session *session;
	PGconn *pg;
	char lock[24], statement[24], idle[24];
	struct floor_process process;	/* where the route's handler is one */
	struct buf answered, attempts, replies;
	int64_t finished;
};

static void __attribute__((noreturn)) PRINTF_LIKE(1, 2) die(const char *fmt, ...)
{
	va_list args;

	va_start(args, fmt);
	fputs("floor: ", stderr);
	vfprintf(stderr, fmt, args);
	fputc('\n', stderr);
	va_end(args);
	exit(EXIT_FAULT);
}

/* The next statement's result, which must be `wanted`. */
static PGresult *expect(PGconn *pg, ExecStatusType wanted)
{
	PGresult *res = PQgetResult(pg);

	if (PQresultStatus(res) != wanted)
		die("%s: %s", PQresStatus(PQresultStatus(res)), PQresultErrorMessage(res));
	if (wanted != PGRES_PIPELINE_SYNC)
		PQclear(PQgetResult(pg));	/* the null that ends its results */
	return res;
}

static void send_prepared(PGconn *pg, const char *name, int n, const char *const *values)
{
	if (!PQsendQueryPrepared(pg, name, n, values, NULL, NULL, 0))
		die("%s", PQerrorMessage(pg));
}

static void sync_pipeline(PGconn *pg)
{
	if (!PQpipelineSync(pg))
		die("%s", PQerrorMessage(pg));
}

/* First round trip. */
static void claim(struct floor_worker *w, const struct session_route *p, const char *ids, size_t n)
{
	const struct floor *f = w->f;
	const char *settings[] = { f->conf->db_search_path, w->lock, w->statement, w->idle,
				   f->route->conf->tag };
	PGresult *res;

	send_prepared(w->pg, p->begin, 0, NULL);
	send_prepared(w->pg, p->settings, 5, settings);
	send_prepared(w->pg, p->claim, 1, &ids);
	sync_pipeline(w->pg);
	PQclear(expect(w->pg, PGRES_COMMAND_OK));
	PQclear(expect(w->pg, PGRES_TUPLES_OK));
	res = expect(w->pg, PGRES_TUPLES_OK);
	if ((size_t)PQntuples(res) != n)
		die("%d of %zu strands claimed: somebody else is at work", PQntuples(res), n);
	PQclear(res);
	PQclear(expect(w->pg, PGRES_PIPELINE_SYNC));
}

/* A statement with an answer for each of `n`, and the COMMIT: one round trip. */
static PGresult *run_and_commit(struct floor_worker *w, const char *name, int n_values,
				const char *const *values, size_t n)
{
	PGresult *res, *commit;

	send_prepared(w->pg, name, n_values, values);
	send_prepared(w->pg, "commit", 0, NULL);
	sync_pipeline(w->pg);
	res = expect(w->pg, PGRES_TUPLES_OK);
	if ((size_t)PQntuples(res) != n)
		die("%d of %zu strands", PQntuples(res), n);
	commit = expect(w->pg, PGRES_COMMAND_OK);
	if (strcmp(PQcmdStatus(commit), "COMMIT") != 0)
		die("COMMIT was answered with %s", PQcmdStatus(commit));
	PQclear(commit);
	PQclear(expect(w->pg, PGRES_PIPELINE_SYNC));
	return res;
}

static void begin_arrays(struct floor_worker *w)
{
	struct buf *all[] = { &w->answered, &w->attempts, &w->replies };

	for (int i = 0; i < 3; i++) {
		buf_clear(all[i]);
		array_begin(all[i]);
	}
}

/* Hands out, asks the process, settles. */
static void run_process(struct floor_worker *w, const struct session_route *p, const char *ids, size_t n)
{
	const struct conf_route *conf = w->f->route->conf;
	const char *out[] = { ids, w->f->routes->instance_text, "{}" };
	const char *values[] = { NULL, w->f->routes->instance_text, NULL, NULL };
	const char *settings[] = { w->f->conf->db_search_path, w->lock, w->statement, w->idle, conf->tag };
	PGresult *handed = run_and_commit(w, p->hand_out, 3, out, n);

	begin_arrays(w);
	if (floor_process_exchange(&w->process, handed, conf->tag, conf->source, &w->answered, &w->attempts, &w->replies))
		die("the process gave no answer");
	PQclear(handed);
	array_end(&w->answered);
	array_end(&w->attempts);
	array_end(&w->replies);
	if (w->answered.failed || w->attempts.failed || w->replies.failed)
		die("out of memory");
	values[0] = w->answered.data;
	values[2] = w->attempts.data;
	values[3] = w->replies.data;
	send_prepared(w->pg, p->begin, 0, NULL);
	send_prepared(w->pg, p->settings, 5, settings);
	send_prepared(w->pg, p->settle, 4, values);
	send_prepared(w->pg, "commit", 0, NULL);
	sync_pipeline(w->pg);
	PQclear(expect(w->pg, PGRES_COMMAND_OK));
	PQclear(expect(w->pg, PGRES_TUPLES_OK));
	PQclear(expect(w->pg, PGRES_TUPLES_OK));
	PQclear(expect(w->pg, PGRES_COMMAND_OK));
	PQclear(expect(w->pg, PGRES_PIPELINE_SYNC));
}

static void run_batch(struct floor_worker *w, char *const *ids, size_t n, struct buf *array)
{
	const struct session_route *p = &w->session->routes[w->f->route->index];

	buf_clear(array);
	array_begin(array);
	for (size_t i = 0; i < n; i++)
		array_item(array, ids[i], strlen(ids[i]));
	array_end(array);
	if (array->failed)
		die("out of memory");
	claim(w, p, array->data, n);
	if (route_is_process(w->f->route)) {
		run_process(w, p, array->data, n);
	} else {
		const char *values[] = { array->data, w->f->routes->instance_text, "0" };
		PQclear(run_and_commit(w, p->settle, 3, values, n));
	}
}

static void set_up(struct floor_worker *w)
{
	const struct floor *f = w->f;
	int64_t deadline = clock_after_ms(CONNECT_MS);
	struct err e;

	if (session_open(&w->session, &f->target, f->routes, deadline, -1, &e) ||
	    session_prepare(w->session, f->route, deadline, &e) ||
	    conn_prepare(w->session->conn, "commit", "COMMIT", deadline, &e))
		die("%s", e.text);
	w->pg = conn_pg(w->session->conn);
	buf_init(&w->answered);
	buf_init(&w->attempts);
	buf_init(&w->replies);
	if (route_is_process(f->route) && floor_process_start(&w->process, f->route->conf->command))
		die("cannot start %s", f->route->conf->command[0]);
	snprintf(w->lock, sizeof(w->lock), "%lld", (long long)f->conf->db_lock_timeout_ms);
	snprintf(w->statement, sizeof(w->statement), "%lld", (long long)f->conf->handler_timeout_ms);
	snprintf(w->idle, sizeof(w->idle), "%lld", (long long)f->target.idle_in_transaction_ms);
}

static void enter_pipeline(struct floor_worker *w)
{
	if (PQsetnonblocking(w->pg, 0) || !PQenterPipelineMode(w->pg))
		die("%s", PQerrorMessage(w->pg));
}

static void work(void *arg)
{
	struct floor_worker *w = arg;
	struct floor *f = w->f;
	size_t batch = (size_t)f->args.batch;
	struct buf array = BUF_INIT;

	buf_init(&array);
	set_up(w);
	enter_pipeline(w);
	pthread_barrier_wait(&f->ready);
	for (;;) {
		/* Relaxed: a ticket, nothing else hangs on it. */
		size_t at = atomic_fetch_add_explicit(&f->next, batch, memory_order_relaxed);

		if (at >= f->n_ids)
			break;
		run_batch(w, f->ids + at, f->n_ids - at < batch ? f->n_ids - at : batch, &array);
	}
	w->finished = clock_now();
	session_close(w->session);
	if (route_is_process(f->route))
		floor_process_stop(&w->process);
	buf_release(&w->answered);
	buf_release(&w->attempts);
	buf_release(&w->replies);
	buf_release(&array);
}

static void read_ids(struct floor *f, struct conn *c)
{
	struct buf sql = BUF_INIT;
	const char *values[] = { f->route->conf->tag };
	PGresult *res;
	struct err e;

	buf_init(&sql);
	buf_addf(&sql, "SELECT id FROM %s WHERE tags @> jsonb_build_array($1::text)"
		 " ORDER BY xact_id, hashtextextended(id, 0)", f->route->source);
	if (sql.failed || conn_query(c, sql.data, 1, values, clock_after_ms(600000), &res, &e))
		die("%s", sql.failed ? "out of memory" : e.text);
	buf_release(&sql);
	f->n_ids = (size_t)PQntuples(res);
	f->ids = calloc(f->n_ids ? f->n_ids : 1, sizeof(*f->ids));
	for (size_t i = 0; f->ids && i < f->n_ids; i++) {
		f->ids[i] = strdup(PQgetvalue(res, (int)i, 0));
		if (!f->ids[i])
			die("out of memory");
	}
	PQclear(res);
	if (!f->ids)
		die("out of memory");
}

static void run_backlog(struct floor *f)
{
	static struct floor_worker workers[MAX_WORKERS];
	int64_t begin, end = 0;
	struct err e;
	double seconds;
	int n = f->args.workers;

	if (pthread_barrier_init(&f->ready, NULL, (unsigned)n + 1))
		die("no barrier");
	for (int i = 0; i < n; i++) {
		char name[16];

		workers[i].f = f;
		snprintf(name, sizeof(name), "floor%d", i);
		if (thread_start(&workers[i].thread, name, work, &workers[i], &e))
			die("%s", e.text);
	}
	pthread_barrier_wait(&f->ready);
	begin = clock_now();
	for (int i = 0; i < n; i++) {
		thread_join(&workers[i].thread);
		if (workers[i].finished > end)
			end = workers[i].finished;
	}
	seconds = (double)(end - begin) / (double)NSEC_PER_SEC;
	printf("strands=%zu seconds=%.3f rate=%.0f\n", f->n_ids, seconds, (double)f->n_ids / seconds);
}

static void listen_on(struct floor_worker *w)
{
	char *channel = PQescapeIdentifier(w->pg, w->f->route->channel, strlen(w->f->route->channel));
	char sql[256];
	struct err e;

	snprintf(sql, sizeof(sql), "LISTEN %s", channel ? channel : "");
	PQfreemem(channel);
	if (conn_query(w->session->conn, sql, 0, NULL, clock_after_ms(CONNECT_MS), NULL, &e))
		die("%s", e.text);
}

/* True when there was something to do. */
static bool answer_announced(struct floor_worker *w, struct buf *array)
{
	PGnotify *notes[MAX_LISTEN_BATCH];
	char *ids[MAX_LISTEN_BATCH];
	size_t n = 0, most = (size_t)w->f->args.batch;

	if (most > MAX_LISTEN_BATCH)
		most = MAX_LISTEN_BATCH;
	while (n < most && (notes[n] = PQnotifies(w->pg)) != NULL) {
		ids[n] = notes[n]->extra;
		n++;
	}
	if (n == 0)
		return false;
	run_batch(w, ids, n, array);
	while (n)
		PQfreemem(notes[--n]);
	return true;
}

static void run_listen(struct floor *f)
{
	static struct floor_worker w;
	struct buf array = BUF_INIT;
	struct pollfd fd;

	buf_init(&array);
	w.f = f;
	set_up(&w);
	listen_on(&w);
	enter_pipeline(&w);
	fd = (struct pollfd){ .fd = PQsocket(w.pg), .events = POLLIN };
	puts("listening");
	fflush(stdout);
	for (;;) {
		if (answer_announced(&w, &array))
			continue;
		if (poll(&fd, 1, -1) > 0 && !PQconsumeInput(w.pg))
			die("%s", PQerrorMessage(w.pg));
	}
}

static error_t parse_option(int key, char *arg, struct argp_state *state)
{
	struct floor_args *a = state->input;

	switch (key) {
	case 'c':
		a->config = arg;
		return 0;
	case 'w':
		a->workers = atoi(arg);
		return 0;
	case 'b':
		a->batch = atoi(arg);
		return 0;
	case 'l':
		a->listen = true;
		return 0;
	case ARGP_KEY_END:
		if (!a->config)
			argp_error(state, "--config is missing");
		if (a->workers < 1 || a->workers > MAX_WORKERS || a->batch < 1)
			argp_error(state, "--workers is 1 to %d, --batch at least 1", MAX_WORKERS);
		return 0;
	default:
		return ARGP_ERR_UNKNOWN;
	}
}

static void connect_and_resolve(struct floor *f)
{
	struct conf *conf;
	struct conn *c;
	struct err e;

	if (conf_load(&conf, f->args.config, &e))
		die("%s", e.text);
	if (conf->n_routes == 0)
		die("%s: no route", f->args.config);
	f->conf = conf;
	f->target = (struct conn_target){
		.host = conf->db_host, .port = conf->db_port, .dbname = conf->db_name,
		.user = conf->db_user, .password = conf->db_password, .service = conf->db_service,
		.application_name = "floor", .search_path = conf->db_search_path,
		.connect_timeout_ms = conf->db_connect_timeout_ms,
		.lock_timeout_ms = conf->db_lock_timeout_ms,
		.idle_in_transaction_ms = IDLE_IN_TRANSACTION_MS,
	};
	if (conn_open(&c, &f->target, clock_after_ms(CONNECT_MS), -1, &e) ||
	    route_table_resolve(&f->routes, conf, c, &e))
		die("%s", e.text);
	f->route = &f->routes->routes[0];
	if (!f->args.listen)
		read_ids(f, c);
	conn_close(c);
}

int main(int argc, char **argv)
{
	static const struct argp_option options[] = {
		{ "config", 'c', "FILE", 0, "strandd's configuration; its first route, which is not serial, is run", 0 },
		{ "workers", 'w', "N", 0, "threads (2)", 0 },
		{ "batch", 'b', "N", 0, "strands a transaction (100)", 0 },
		{ "listen", 'l', NULL, 0, "answer notifications until killed", 0 },
		{ 0 }
	};
	static const struct argp argp = {
		.options = options, .parser = parse_option,
		.doc = "Runs the statements of strandd's first route with nothing around them.",
	};
	static struct floor f = { .args = { .workers = 2, .batch = 100 } };

	argp_parse(&argp, argc, argv, 0, NULL, &f.args);
	connect_and_resolve(&f);
	if (f.args.listen)
		run_listen(&f);
	run_backlog(&f);
	for (size_t i = 0; i < f.n_ids; i++)
		free(f.ids[i]);
	free(f.ids);
	route_table_free(f.routes);
	conf_free(f.conf);
	return 0;
}
