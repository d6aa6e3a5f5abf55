#include "strandctl/ctl.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"

/* A COMMIT's answer is worth waiting for even after SIGINT. */
#define COMMIT_TIMEOUT_MS 30000

static struct event *signal_event;

static void on_signal(int number)
{
	(void)number;
	event_signal(signal_event);
}

int ctl_catch_signals(struct ctl *ctl, struct err *e)
{
	struct sigaction action = { .sa_handler = on_signal };

	if (event_init(&ctl->interrupted))
		return err_set(e, STRAND_ESYS, "eventfd: %s", strerror(errno));
	signal_event = &ctl->interrupted;
	sigaction(SIGINT, &action, NULL);
	sigaction(SIGTERM, &action, NULL);
	sigaction(SIGHUP, &action, NULL);
	return 0;
}

bool ctl_interrupted(const struct ctl *ctl)
{
	struct pollfd p = { .fd = ctl->interrupted.fd, .events = POLLIN };

	return poll(&p, 1, 0) > 0;
}

/* --dbname may be a name, which replaces the configured one, or a whole
 * conninfo string, which replaces everything: a configured password must not
 * go to another host. */
static bool is_conninfo(const char *dbname)
{
	return strchr(dbname, '=') || strstr(dbname, "://");
}

/* Does a '/' or a second '@' stand in what is meant as the password?  libpq would
 * take the rest of it for a host or a database, and name that in its messages. */
static bool uri_is_ambiguous(const char *dbname)
{
	const char *rest = strstr(dbname, "://");

	if (!rest)
		return false;
	rest += 3;
	rest += strcspn(rest, "@/");
	return *rest && memchr(rest + 1, '@', strcspn(rest + 1, "?"));
}

/* Neither the text nor libpq's message about it is told: what looks like a wrong
 * word may be the rest of a password with a blank. */
static int check_dbname(const char *dbname, struct err *e)
{
	PQconninfoOption *parsed = NULL;
	bool bad = false;

	if (is_conninfo(dbname)) {
		parsed = PQconninfoParse(dbname, NULL);
		bad = !parsed || uri_is_ambiguous(dbname);
	}
	PQconninfoFree(parsed);
	if (!bad)
		return 0;
	return err_set(e, STRAND_EINVAL, "--dbname: not a connection string (not repeated here: it may hold"
		       " a password); write \"host=H dbname=D password='P'\", or postgresql://USER:P@H/D with"
		       " %%40 for @ and %%2F for / in P");
}

static void set_target(struct ctl *ctl, int64_t lock_timeout_ms)
{
	const struct conf *conf = ctl->conf;
	struct conn_target *t = &ctl->target;

	*t = (struct conn_target){
		.application_name = "strandctl",
		.connect_timeout_ms = conf->db_connect_timeout_ms,
		.search_path = conf->db_search_path,
		.lock_timeout_ms = lock_timeout_ms,
		.dbname = ctl->dbname,
	};
	if (ctl->dbname && is_conninfo(ctl->dbname))
		return;
	t->host = conf->db_host;
	t->port = conf->db_port;
	t->user = conf->db_user;
	t->password = conf->db_password;
	t->service = conf->db_service;
	if (!ctl->dbname)
		t->dbname = conf->db_name;
}

int ctl_load_conf(struct ctl *ctl, struct err *e)
{
	int ret;

	if (!ctl->config_given && access(ctl->config, R_OK) < 0) {
		if (ctl->dbname)
			return conf_default(&ctl->conf) ? err_set(e, STRAND_ENOMEM, "out of memory") : 0;
		return err_set(e, STRAND_EINVAL, "%s: %s; say --config FILE or --dbname CONNINFO",
			       ctl->config, strerror(errno));
	}
	ret = conf_load(&ctl->conf, ctl->config, e);
	return ret == STRAND_ENOENT ? err_set(e, STRAND_EINVAL, "%s", e->text) : ret;
}

/* What the server warns of, besides what conn_open's own receiver looks for. */
static PQnoticeReceiver first_receiver;

static void on_warning(void *conn, const PGresult *res)
{
	const char *text = PQresultErrorField(res, PG_DIAG_MESSAGE_PRIMARY);
	const char *hint = PQresultErrorField(res, PG_DIAG_MESSAGE_HINT);

	first_receiver(conn, res);
	if (text)
		ctl_warn("warning: %s", text);
	if (text && hint)
		ctl_warn("hint: %s", hint);
}

int ctl_connect(struct ctl *ctl, int64_t lock_timeout_ms, struct err *e)
{
	int ret = ctl->dbname ? check_dbname(ctl->dbname, e) : 0;

	if (!ret)
		ret = ctl_load_conf(ctl, e);
	if (ret)
		return ret;
	set_target(ctl, lock_timeout_ms);
	ret = conn_open(&ctl->conn, &ctl->target, clock_after_ms(ctl->target.connect_timeout_ms),
			ctl->interrupted.fd, e);
	if (!ret)
		first_receiver = PQsetNoticeReceiver(conn_pg(ctl->conn), on_warning, ctl->conn);
	return ret;
}

int ctl_schema_version(struct ctl *ctl, int *ret_version, struct err *e)
{
	PGresult *res;
	int ret = ctl_query(ctl, "SELECT coalesce(max(version), 0) FROM strandd.version", 0, NULL, &res, e);

	if (ret == STRAND_ESQL && (!strcmp(e->sqlstate, "3F000") || !strcmp(e->sqlstate, "42P01"))) {
		*ret_version = 0;
		return 0;
	}
	if (ret)
		return ret;
	*ret_version = atoi(PQgetvalue(res, 0, 0));
	PQclear(res);
	return 0;
}

static int refuse_newer(struct ctl *ctl, int version, struct err *e)
{
	if (version <= CTL_SCHEMA_VERSION)
		return 0;
	return err_set(e, STRAND_EINVAL,
		       "database \"%s\" has schema version %d, newer than this strandctl's %d: "
		       "nothing was changed; use a newer strandctl",
		       PQdb(conn_pg(ctl->conn)), version, CTL_SCHEMA_VERSION);
}

int ctl_refuse_newer(struct ctl *ctl, struct err *e)
{
	int version, ret = ctl_schema_version(ctl, &version, e);

	return ret ? ret : refuse_newer(ctl, version, e);
}

int ctl_connect_installed(struct ctl *ctl, struct err *e)
{
	int version, ret = ctl_connect(ctl, 0, e);

	if (!ret)
		ret = ctl_schema_version(ctl, &version, e);
	if (!ret)
		ret = refuse_newer(ctl, version, e);
	if (ret || version == CTL_SCHEMA_VERSION)
		return ret;
	if (!version)
		return err_set(e, STRAND_ENOENT,
			       "database \"%s\" is not prepared for strandd: run strandctl init first",
			       PQdb(conn_pg(ctl->conn)));
	return err_set(e, STRAND_EINVAL,
		       "database \"%s\" has schema version %d, older than this strandctl's %d: "
		       "run strandctl init", PQdb(conn_pg(ctl->conn)), version, CTL_SCHEMA_VERSION);
}

void ctl_release(struct ctl *ctl)
{
	conn_close(ctl->conn);
	conf_free(ctl->conf);
	event_release(&ctl->interrupted);
}

int ctl_query(struct ctl *ctl, const char *sql, int n_values, const char *const *values,
	      PGresult **ret_result, struct err *e)
{
	int ret = conn_query(ctl->conn, sql, n_values, values, INT64_MAX, ret_result, e);

	if (ret == STRAND_ESTOPPED)
		conn_kill(ctl->conn, false);
	return ret;
}

int ctl_exec(struct ctl *ctl, const char *sql, struct err *e)
{
	int ret = conn_script(ctl->conn, sql, INT64_MAX, e);

	if (ret == STRAND_ESTOPPED)
		conn_kill(ctl->conn, false);
	return ret;
}

/* Waits for one command's answer with nothing but the deadline to stop it. */
static PGresult *answer(PGconn *pg, int64_t deadline)
{
	struct pollfd p = { .fd = PQsocket(pg) };

	for (;;) {
		int unsent = PQflush(pg);

		if (unsent < 0 || (!unsent && !PQisBusy(pg)))
			return PQgetResult(pg);
		p.events = (short)(unsent ? POLLIN | POLLOUT : POLLIN);
		if (poll(&p, 1, clock_left_ms(deadline)) == 0)
			return NULL;
		if ((p.revents & POLLIN) && !PQconsumeInput(pg))
			return PQgetResult(pg);
	}
}

int ctl_commit(struct ctl *ctl, struct err *e)
{
	PGconn *pg = conn_pg(ctl->conn);
	int64_t deadline = clock_after_ms(COMMIT_TIMEOUT_MS);
	PGresult *res, *next;
	int ret = 0;

	res = PQsendQuery(pg, "COMMIT") ? answer(pg, deadline) : NULL;
	if (!res || PQstatus(pg) != CONNECTION_OK)
		ret = err_set(e, STRAND_ECONN, "connection lost in COMMIT");
	else if (PQresultStatus(res) != PGRES_COMMAND_OK)
		ret = err_set(e, STRAND_ESQL, "COMMIT refused: %s",
			      PQresultErrorField(res, PG_DIAG_MESSAGE_PRIMARY));
	else if (strcmp(PQcmdStatus(res), "COMMIT") != 0)
		ret = err_set(e, STRAND_EPROTO, "the server rolled the transaction back");
	PQclear(res);
	while (res && (next = answer(pg, deadline)))
		PQclear(next);
	return ret;
}
