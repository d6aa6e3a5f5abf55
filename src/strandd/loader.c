#include "strandd/loader.h"

#include "base/activity.h"
#include "base/clock.h"
#include "base/failpoint.h"
#include "base/log.h"
#include "base/outage.h"
#include "base/plural.h"
#include "conf/report.h"
#include "strandd/demand.h"
#include "work/session.h"

/* Of lines that answer an operator's SIGHUP: each is told, however often. */
static const struct log_fields answer = { .fold = LOG_FOLD_NEVER };

struct conn_target target_of(const struct conf *c)
{
	return (struct conn_target){
		.host = c->db_host, .port = c->db_port, .dbname = c->db_name, .user = c->db_user,
		.password = c->db_password, .service = c->db_service,
		.application_name = "strandd", .search_path = c->db_search_path,
		.connect_timeout_ms = c->db_connect_timeout_ms,
		.lock_timeout_ms = c->db_lock_timeout_ms,
		.idle_in_transaction_ms = SESSION_IDLE_IN_TRANSACTION_MS,
	};
}

int loader_init(struct loader *l, struct event *news)
{
	*l = (struct loader){ .quit = { .fd = -1 } };
	progress_init(&l->progress, news);
	return event_init(&l->quit);
}

void loader_release(struct loader *l)
{
	if (!l->progress.news)
		return;
	event_release(&l->quit);
	progress_release(&l->progress);
}

static int try_resolve(struct loader *l, const struct conf *conf, struct err *e)
{
	struct conn_target target = target_of(conf);
	struct conn *c;
	int ret = conn_open(&c, &target, clock_after_ms(conf->db_connect_timeout_ms), l->quit.fd, e);

	if (ret)
		return ret;
	ret = route_table_resolve(&l->routes, conf, c, e);
	if (!ret)
		demand_check(conf, c);
	conn_close(c);
	return ret;
}

/* At start an unreachable server is waited for. */
static int resolve(struct loader *l, const struct conf *conf, struct err *e)
{
	struct outage outage = { 0 };
	int64_t pause;
	int ret;

	activity_set("looking up the routes");
	if (!conf->n_routes)
		return err_set(e, STRAND_EINVAL, "%s: no routes: there is nothing to serve", conf->file);
	for (;;) {
		ret = try_resolve(l, conf, e);
		if (!ret)
			outage_over(&outage, "connected");
		if (l->mode == LOADER_RELOAD || !ret || ret == STRAND_EINVAL || ret == STRAND_ENOMEM ||
		    ret == STRAND_ESTOPPED)
			return ret;
		progress_trouble(&l->progress, PROGRESS_LISTENER, e->text);
		pause = outage_failed(&outage, e, "waiting for it");
		if (!event_wait(&l->quit, clock_after_ms(pause)))
			return STRAND_ESTOPPED;
	}
}

/* From the same files, environment and arguments; all errors are told. */
static int read_again(struct loader *l)
{
	struct reports reports = { 0 };
	int ret = conf_reread(&l->conf, l->given, &reports);

	for (size_t i = 0; i < reports.n; i++)
		log_event(reports.list[i].warning ? LOG_LEVEL_WARNING : LOG_LEVEL_ERROR, &answer, "%s",
			  reports.list[i].text);
	if (ret == STRAND_ENOMEM)
		err_set(&l->err, ret, "%s: out of memory", l->given->file);
	else if (ret)
		err_set(&l->err, ret, "%s: %zu error%s; see the lines above", l->given->file, reports.n_errors,
			plural(reports.n_errors));
	reports_release(&reports);
	return ret;
}

static void loader_run(void *arg)
{
	struct loader *l = arg;

	(void)FAILPOINT("loader.run");
	l->ret = l->mode != LOADER_START ? read_again(l) : 0;
	/* The text tells; whatever is wrong with it, the file is to be mended. */
	if (l->ret && l->ret != STRAND_ENOMEM)
		l->ret = STRAND_EINVAL;
	if (!l->ret)
		l->ret = resolve(l, l->conf ? l->conf : l->given, &l->err);
	progress_trouble(&l->progress, PROGRESS_LISTENER, NULL);
	/* Release: the outcome is seen by the main thread that finds it ended. */
	atomic_store_explicit(&l->ended, true, memory_order_release);
	event_signal(l->progress.news);
}

int loader_start(struct loader *l, enum loader_mode mode, const struct conf *given, struct err *e)
{
	int ret;

	l->mode = mode;
	l->given = given;
	l->conf = NULL;
	l->routes = NULL;
	l->err = (struct err){ 0 };
	event_clear(&l->quit);
	/* Relaxed: the thread is not started yet. */
	atomic_store_explicit(&l->ended, false, memory_order_relaxed);
	ret = thread_start(&l->thread, "loader", loader_run, l, e);
	l->running = !ret;
	return ret;
}

void loader_quit(struct loader *l)
{
	event_signal(&l->quit);
}

bool loader_has_ended(const struct loader *l)
{
	/* Acquire: pairs with loader_run. */
	return l->running && atomic_load_explicit(&l->ended, memory_order_acquire);
}

int loader_finish(struct loader *l, struct conf **ret_conf, struct route_table **ret_routes, struct err *e)
{
	thread_join(&l->thread);
	l->running = false;
	*e = l->err;
	if (!l->ret || l->ret == STRAND_ESTOPPED)
		*ret_conf = l->conf;
	else
		conf_free(l->conf);
	if (!l->ret)
		*ret_routes = l->routes;
	l->conf = NULL;
	l->routes = NULL;
	return l->ret;
}
