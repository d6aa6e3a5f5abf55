/* The effective configuration: defaults, then the file, the files of conf.d beside
 * it, the environment, and --set.
 *
 * Read by one thread, then only read from: any thread may, nobody writes.
 * Strings are owned by the struct.
 */
#ifndef STRANDD_CONF_CONF_H
#define STRANDD_CONF_CONF_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "base/log.h"

/* A module and the table that it owns. */
struct conf_module {
	char *name;		/* "dm" */
	char *table;		/* "DM_strands", resolved as SQL would */
	const char *file;	/* where it stands; NULL: one of the specification's three */
	int line;
};

#define CONF_MAX_WORKERS 64	/* threads of the pool, and of processes, in all */

enum conf_delivery {
	DELIVERY_AT_LEAST_ONCE,
	DELIVERY_AT_MOST_ONCE,
};

/* One route as configured; a field for each row of route_options, where defaults and
 * bounds are. */
struct conf_route {
	char *tag;		/* "dm:evaluate_plan"; the part before ':' names the receiving module */
	char *source;		/* source table */
	char *handler;		/* SQL function, as SQL would name it: "trading.evaluate_plan"; or NULL, and */
	char **command;		/* program and arguments, ends with NULL; or NULL, and a handler */
	bool serial;		/* one batch at a time over all workers and instances */
	int attempts;		/* until a failing strand is failed for good */
	int64_t backoff_initial_ms;
	double backoff_factor;
	int64_t backoff_cap_ms;		/* not below the initial one */
	int64_t timeout_ms;	/* expiry where no tag says another; 0 = none */
	int max_workers;	/* 0 = no bound */
	int batch;		/* strands a batch; 0 = workers_batch */
	int suspend_after;	/* failures in a row; 0 = never */
	/* Of a command: */
	int processes;
	enum conf_delivery delivery;
	int in_flight;		/* 0: the batch, or 1 */
	int64_t deadline_ms, grace_ms, start_timeout_ms, max_lifetime_ms;	/* the last: 0 = never */
	int64_t max_line;	/* bytes */
	bool says_ready;
	int max_requests;	/* 0 = never */
	int max_replies, stderr_rate, restart_rate;
	char *directory, *user;	/* NULL: the service's own */
	char **environment;	/* "NAME=value", ends with NULL; or NULL */
	const char *file;	/* where it stands, for messages */
	int line;
	unsigned given;		/* one bit for each row of route_options that the file says */
};

struct option;
struct place;
struct reports;

/* A field for each row of conf_options, where defaults and bounds are. */
struct conf {
	char *file;		/* path it came from, for messages */
	/* module_communication.database; NULL = libpq's own default */
	char *db_host, *db_port, *db_name, *db_user, *db_password, *db_service, *db_password_file;
	char *db_search_path;
	int64_t db_connect_timeout_ms, db_lock_timeout_ms;
	int64_t db_idle_timeout_ms;	/* of a worker's connection */
	int64_t db_max_lifetime_ms;
	bool notifications_enabled;	/* false: by scanning alone */
	char **channels;		/* serve these alone; ends with NULL; NULL = all */
	size_t n_channels;
	bool cleanup_enabled;
	int cleanup_retention_days;
	int cleanup_interval_hours;
	int cleanup_batch;		/* rows a transaction */
	int64_t cleanup_pause_ms;	/* between batches */
	bool cleanup_drop_unprocessed;
	int workers_threads;
	int workers_batch;		/* strands a batch */
	int64_t workers_max_batch_bytes;
	int workers_reserved_for_high;	/* workers */
	int workers_normal_share_every;	/* batches */
	int64_t handler_timeout_ms;	/* bound on one batch's statement */
	int queue_limit;		/* deliveries of each priority queued or running */
	int64_t queue_bytes;		/* their ids in bytes */
	int64_t scan_interval_ms;
	int scan_page;			/* rows a page */
	int64_t stop_timeout_ms;	/* finish what runs within this */
	char *stats_socket;		/* NULL = none */
	enum log_level log_level;
	enum log_format log_format;
	struct conf_module *modules;
	size_t n_modules;
	struct conf_route *routes;
	size_t n_routes;
	struct conf_route *left_out;	/* routes that `channels` does not name */
	size_t n_left_out;
	/* What it was read from. */
	char **names;			/* of files and variables; ends with NULL */
	size_t n_names;
	struct place *places;		/* of each row of conf_options */
	char **sets;			/* "path=value"; ends with NULL */
};

struct conf_request {
	const char *file;
	const char *const *sets;	/* of --set, ends with NULL; or NULL */
	const char *const *environment;	/* as environ; or NULL */
	bool client;		/* strandctl: can do without a password_file that it may not read */
};

/* Reads the configuration.  Everything that is wrong or odd is reported, with its
 * place and the remedy, in the order in which files, environment and sets count.
 * STRAND_ENOENT (there is no such file), STRAND_EINVAL (an error was reported),
 * STRAND_ENOMEM. */
int conf_read(struct conf **ret_conf, const struct conf_request *request,
	      struct reports *reports) MUST_CHECK;

/* Reads it again, from where `old` was read from. */
int conf_reread(struct conf **ret_conf, const struct conf *old, struct reports *reports) MUST_CHECK;

/* For programs that want no list: conf_read of `path` with the environment; the first
 * error stands in *e, and how many more there are.  Warnings are dropped. */
int conf_load(struct conf **ret_conf, const char *path, struct err *e) MUST_CHECK;
void conf_free(struct conf *c);

/* The next option from *at on whose value differs, and *at behind it; NULL: no more.
 * Lists are not compared. */
const struct option *conf_next_change(const struct conf *old, const struct conf *new, size_t *at);

/* What an empty file would give; for programs that can do without a file. */
int conf_default(struct conf **ret_conf) MUST_CHECK;

/* The module that receives `tag` ("dm:evaluate_plan" -> "dm"), or NULL. */
const struct conf_module *conf_receiver(const struct conf *c, const char *tag);

/* Is this what stands before ':' in tags that are attributes of a strand
 * (priority, timeout, original_strand, error), addressed to nobody? */
bool conf_is_attribute(const char *module, size_t len);

#endif
