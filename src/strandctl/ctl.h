/* What every command of strandctl shares.
 *
 * One `struct ctl` lives in main() and is handed to the command.  strandctl has
 * one thread of its own (watch.c starts a second for one statement at a time);
 * the struct belongs to the main thread.
 *
 * A command is `int command_NAME(struct ctl *, int argc, char **argv)`, argv[0]
 * being its name.  It returns an enum exit_code and has told the user, on
 * standard error, why that is not EXIT_OK.
 */
#ifndef STRANDD_STRANDCTL_CTL_H
#define STRANDD_STRANDCTL_CTL_H

#include <stdbool.h>
#include <stdint.h>

#include <libpq-fe.h>

#include "base/err.h"
#include "base/event.h"
#include "conf/conf.h"
#include "pg/conn.h"

/* The schema version that this program installs and understands. */
#define CTL_SCHEMA_VERSION 2

struct ctl {
	const char *config;		/* --config, or the default file */
	bool config_given;
	const char *dbname;		/* --dbname, or NULL */
	const char *wants;		/* the role that the command wants, for people */
	bool json;
	int64_t lock_wait_ms;		/* patience with locks of other sessions */
	struct conf *conf;		/* NULL until ctl_connect; the defaults where --dbname does for a file */
	struct conn_target target;	/* borrows from conf and dbname */
	struct conn *conn;		/* NULL until ctl_connect */
	struct event interrupted;	/* raised by SIGINT, SIGTERM */
};

/* connect.c */
int ctl_catch_signals(struct ctl *ctl, struct err *e) MUST_CHECK;
bool ctl_interrupted(const struct ctl *ctl);

/* Reads the configuration: ctl->conf; NULL without a file where --dbname says all. */
int ctl_load_conf(struct ctl *ctl, struct err *e) MUST_CHECK;

/* Reads the configuration and connects.  `lock_timeout_ms` 0 waits for ever. */
int ctl_connect(struct ctl *ctl, int64_t lock_timeout_ms, struct err *e) MUST_CHECK;

/* *ret_version 0 when nothing is installed. */
int ctl_schema_version(struct ctl *ctl, int *ret_version, struct err *e) MUST_CHECK;

/* Refuses, with STRAND_EINVAL, a schema that a newer strandctl installed. */
int ctl_refuse_newer(struct ctl *ctl, struct err *e) MUST_CHECK;

/* ctl_connect, then refuses a database without our schema (STRAND_ENOENT) or
 * with one of another version (STRAND_EINVAL). */
int ctl_connect_installed(struct ctl *ctl, struct err *e) MUST_CHECK;
void ctl_release(struct ctl *ctl);

/* One statement; no deadline but the user's patience: SIGINT cancels it. */
int ctl_query(struct ctl *ctl, const char *sql, int n_values, const char *const *values,
	      PGresult **ret_result, struct err *e) MUST_CHECK;
int ctl_exec(struct ctl *ctl, const char *sql, struct err *e) MUST_CHECK;

/* Commits; not given up on SIGINT, so that its outcome is known.  Anything but
 * the server's word COMMIT is an error. */
int ctl_commit(struct ctl *ctl, struct err *e) MUST_CHECK;

/* say.c: words for people. */
/* "strandctl: text" on standard error. */
void ctl_warn(const char *fmt, ...) PRINTF_LIKE(1, 2);
/* A line of what was done: standard output, standard error with --json or where
 * standard output cannot be written. */
void ctl_say(const struct ctl *ctl, const char *fmt, ...) PRINTF_LIKE(2, 3);
/* Prints `e` and the server's detail and hint; returns the exit code for it.
 * Call before another statement runs. */
int ctl_fail(struct ctl *ctl, const struct err *e);
/* The server's DETAIL or HINT of the failed statement ("HINT"), or "". */
void ctl_server_note(struct ctl *ctl, const char *which, char *out, size_t size);
int exit_code_of(const struct err *e);
/* The value of a column by number, NULL for SQL's NULL. */
const char *cell(const PGresult *res, int row, int column);

int command_init(struct ctl *ctl, int argc, char **argv);
int command_attach(struct ctl *ctl, int argc, char **argv);
int command_detach(struct ctl *ctl, int argc, char **argv);
int command_uninstall(struct ctl *ctl, int argc, char **argv);
int command_adopt(struct ctl *ctl, int argc, char **argv);
int command_cleanup(struct ctl *ctl, int argc, char **argv);
int command_publish(struct ctl *ctl, int argc, char **argv);
int command_read(struct ctl *ctl, int argc, char **argv);
int command_recent(struct ctl *ctl, int argc, char **argv);
int command_trace(struct ctl *ctl, int argc, char **argv);
int command_doctor(struct ctl *ctl, int argc, char **argv);
int command_explain(struct ctl *ctl, int argc, char **argv);
int command_status(struct ctl *ctl, int argc, char **argv);
int command_withdraw(struct ctl *ctl, int argc, char **argv);
int command_failed(struct ctl *ctl, int argc, char **argv);
int command_reload(struct ctl *ctl, int argc, char **argv);
int command_report(struct ctl *ctl, int argc, char **argv);
int command_resume(struct ctl *ctl, int argc, char **argv);
int command_handler_test(struct ctl *ctl, int argc, char **argv);

#endif
