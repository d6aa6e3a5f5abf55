#include "conf/option.h"

#include "conf/channel.h"
#include "conf/conf.h"

#define SECOND_MS INT64_C(1000)
#define MINUTE_MS (60 * SECOND_MS)
#define HOUR_MS (60 * MINUTE_MS)
#define DAY_MS (24 * HOUR_MS)
#define KIB INT64_C(1024)
#define GIB (KIB * KIB * KIB)
/* sockaddr_un's path, less its NUL. */
#define SOCKET_PATH_MAX 107
/* PostgreSQL's identifiers hold 63 bytes; quotes and a schema may stand around. */
#define NAME_MAX_BYTES 255

#define LENGTH(array) (sizeof(array) / sizeof((array)[0]))
#define AT(member) .offset = offsetof(struct conf, member), .reloadable = true
#define AT_START(member) .offset = offsetof(struct conf, member)
#define IN_MODULE(member) .offset = offsetof(struct conf_module, member), .reloadable = true
#define IN_ROUTE(member) .offset = offsetof(struct conf_route, member), .reloadable = true
#define STRING(bytes) .type = OPTION_STRING, .min = 1, .max = (bytes)
#define DATABASE(name) "module_communication.database." name
#define NOTIFICATIONS(name) "module_communication.notifications." name
#define CLEANUP(name) "module_communication.cleanup." name

static const struct option options[] = {
	{ DATABASE("host"), STRING(4096), .example = "localhost", AT(db_host),
	  .help = "Server: a name, an address, or the directory of its Unix socket; or several, with commas." },
	{ DATABASE("port"), OPTION_PORT, .min = 1, .max = 65535, .example = "5432", AT(db_port),
	  .help = "Port of the server." },
	{ DATABASE("database"), OPTION_DATABASE, .min = 1, .max = 4096, .example = "trading_intelligence",
	  AT(db_name),
	  .help = "Database that holds the modules' tables." },
	{ DATABASE("user"), STRING(4096), .example = "trading_user", AT(db_user),
	  .help = "Role to connect as; an ordinary one, see strandctl init." },
	{ DATABASE("password"), STRING(4096), .example = "secure_password", AT(db_password), .secret = true,
	  .help = "Password; better in ~/.pgpass, a service file or a password_file." },
	{ DATABASE("password_file"), STRING(4096), .example = "/etc/strandd/password", AT(db_password_file),
	  .help = "File that holds the password alone, readable for strandd's user only." },
	{ DATABASE("service"), STRING(4096), .example = "trading", AT(db_service),
	  .help = "Service in libpq's service file, which then says all of the above." },
	{ DATABASE("search_path"), STRING(4096), .fallback = "public", AT(db_search_path),
	  .help = "Schemas in which the names of tables and handlers are looked up." },
	{ DATABASE("connect_timeout"), OPTION_DURATION, .min = 100, .max = 10 * MINUTE_MS, .fallback = "5s",
	  AT(db_connect_timeout_ms),
	  .help = "Give up an attempt to connect after this; another follows." },
	{ DATABASE("lock_timeout"), OPTION_DURATION, .min = 1, .max = 10 * MINUTE_MS, .fallback = "2s",
	  AT(db_lock_timeout_ms),
	  .help = "Wait no longer than this for a lock." },
	{ DATABASE("idle_timeout"), OPTION_DURATION, .min = 10 * SECOND_MS, .max = DAY_MS, .fallback = "5min",
	  AT(db_idle_timeout_ms),
	  .help = "Close a worker's connection that had nothing to do for this long; a reserved worker keeps its own." },
	{ DATABASE("max_lifetime"), OPTION_DURATION, .min = 30 * SECOND_MS, .max = 7 * DAY_MS, .fallback = "1h",
	  AT(db_max_lifetime_ms),
	  .help = "Renew a worker's connection that is older than this." },
	{ NOTIFICATIONS("enabled"), OPTION_BOOL, .fallback = "true", AT(notifications_enabled),
	  .help = "Listen for notifications; without, strands are found by scanning alone." },
	{ NOTIFICATIONS("channels"), OPTION_STRINGS, .min = 1, .max = CHANNEL_MAX_BYTES,
	  .example = "dm_evaluate_plan, trader_execute_plan", AT(channels),
	  .help = "Serve only the routes of these channels; all if left out." },
	{ CLEANUP("enabled"), OPTION_BOOL, .fallback = "false", AT(cleanup_enabled),
	  .help = "Delete old strands that every route is done with." },
	{ CLEANUP("retention_days"), OPTION_INT, "days", 1, 36500, "7", AT(cleanup_retention_days),
	  .help = "Keep strands for this many days." },
	{ CLEANUP("cleanup_interval_hours"), OPTION_INT, "hours", 1, 8760, "24", AT(cleanup_interval_hours),
	  .help = "Time between two runs." },
	{ CLEANUP("batch"), OPTION_INT, "rows", 1, 100000, "1000", AT(cleanup_batch),
	  .help = "Most rows that one transaction deletes, but for 291 more at most that are as old as its last." },
	{ CLEANUP("pause"), OPTION_DURATION, .min = 0, .max = HOUR_MS, .fallback = "100ms", AT(cleanup_pause_ms),
	  .help = "Pause between two batches." },
	{ CLEANUP("drop_unprocessed"), OPTION_BOOL, .fallback = "false", AT(cleanup_drop_unprocessed),
	  .help = "Delete also strands that a route has not handled: they are lost." },
	{ "workers.threads", OPTION_INT, "threads", 1, 64, "4", AT(workers_threads),
	  .help = "Worker threads, each with a connection of its own." },
	{ "workers.batch", OPTION_INT, "strands", 1, 1000, "100", AT(workers_batch),
	  .help = "Most strands that one transaction handles." },
	{ "workers.max_batch_bytes", OPTION_SIZE, .min = KIB, .max = GIB, .fallback = "16MiB",
	  AT(workers_max_batch_bytes),
	  .help = "Most bytes of strands that one transaction handles; a larger one goes alone." },
	{ "workers.reserved_for_high", OPTION_INT, "workers", 0, 63, "0", AT(workers_reserved_for_high),
	  .help = "Workers that take strands with priority:high only." },
	{ "workers.normal_share_every", OPTION_INT, "batches", 1, 1000000, "10", AT(workers_normal_share_every),
	  .help = "After this many batches of high priority in a row a waiting normal one goes first." },
	{ "workers.handler_timeout", OPTION_DURATION, .min = 10, .max = DAY_MS, .fallback = "30s",
	  AT(handler_timeout_ms),
	  .help = "Bound on the statement that handles one batch." },
	{ "queue.limit", OPTION_INT, "strands", 1, 10000000, "20000", AT(queue_limit),
	  .help = "Most strands of each priority queued or running in memory; more are left to the scan." },
	{ "queue.bytes", OPTION_SIZE, .min = KIB, .max = KIB * GIB, .fallback = "8MiB", AT(queue_bytes),
	  .help = "Most bytes that their ids may take, of each priority." },
	{ "scan.interval", OPTION_DURATION, .min = 10, .max = DAY_MS, .fallback = "5s", AT(scan_interval_ms),
	  .help = "Time between two looks for strands that no notification told of." },
	{ "scan.page", OPTION_INT, "rows", 1, 100000, "1000", AT(scan_page),
	  .help = "Rows that a scan reads at a time." },
	{ "stats.socket", STRING(SOCKET_PATH_MAX), .example = "/run/strandd/stats.sock", AT_START(stats_socket),
	  .help = "Unix socket that serves GET /metrics; none if left out." },
	{ "log.level", OPTION_LEVEL, .fallback = "info", AT(log_level),
	  .help = "error, warning, info or debug." },
	{ "log.format", OPTION_FORMAT, .fallback = "auto", AT_START(log_format),
	  .help = "auto (journal when standard error is the journal, else text), text, journal or json." },
	{ "stop_timeout", OPTION_DURATION, .min = 0, .max = HOUR_MS, .fallback = "20s", AT(stop_timeout_ms),
	  .help = "When told to stop, give what runs this long to finish." },
};
const struct option_table conf_options = { options, LENGTH(options) };
_Static_assert(LENGTH(options) <= OPTIONS_MAX, "readers have room for each row");

static const struct option module_fields[] = {
	{ "name", STRING(CHANNEL_MAX_BYTES), IN_MODULE(name), .required = true,
	  .help = "What stands before ':' in the tags that the module receives." },
	{ "table", STRING(NAME_MAX_BYTES), IN_MODULE(table), .required = true,
	  .help = "Table that the module owns, as SQL would name it." },
};
const struct option_table module_options = { module_fields, LENGTH(module_fields) };
_Static_assert(LENGTH(module_fields) <= LIST_OPTIONS_MAX, "a bit a row");

static const struct option route_fields[] = {
	{ "tag", STRING(NAME_MAX_BYTES), IN_ROUTE(tag), .required = true,
	  .help = "<module>:<action>; the module is the one that receives." },
	{ "source", STRING(NAME_MAX_BYTES), IN_ROUTE(source), .required = true,
	  .help = "Table whose strands bear the tag." },
	{ "handler", STRING(NAME_MAX_BYTES), IN_ROUTE(handler), .example = "trading.evaluate_plan",
	  .help = "SQL function that handles a strand; or else there is a command." },
	{ "command", OPTION_STRINGS, .min = 1, .max = 4096, .example = "/usr/bin/python3, /opt/dm/evaluate.py",
	  IN_ROUTE(command),
	  .help = "Program that handles strands in processes of its own, and its arguments." },
	{ "serial", OPTION_BOOL, .fallback = "false", IN_ROUTE(serial),
	  .help = "One batch at a time over all workers and instances; of a handler in SQL." },
	{ "attempts", OPTION_INT, "attempts", 1, 1000, "5", IN_ROUTE(attempts),
	  .help = "Attempts that a failing strand gets before it is failed for good." },
	{ "backoff.initial", OPTION_DURATION, .min = 1, .max = DAY_MS, .fallback = "1s",
	  IN_ROUTE(backoff_initial_ms),
	  .help = "Longest wait before the second attempt." },
	{ "backoff.factor", OPTION_DECIMAL, .min = 1, .max = 10, .fallback = "2.0", IN_ROUTE(backoff_factor),
	  .help = "Each further wait is this many times as long." },
	{ "backoff.cap", OPTION_DURATION, .min = 1, .max = 7 * DAY_MS, .fallback = "5min",
	  IN_ROUTE(backoff_cap_ms),
	  .help = "But no longer than this." },
	{ "timeout", OPTION_DURATION, .min = 1, .max = 365 * DAY_MS, .fallback = "none", IN_ROUTE(timeout_ms),
	  .help = "Expire strands that nobody handled in this time, where no timeout: tag says another." },
	{ "max_workers", OPTION_INT, "workers", 0, 64, "0", IN_ROUTE(max_workers),
	  .help = "Most workers that serve the route at a time; 0 sets no bound." },
	{ "batch", OPTION_INT, "strands", 0, 1000, "0", IN_ROUTE(batch),
	  .help = "Most strands that one transaction handles; 0 takes workers.batch, and process.in_flight where"
		  " delivery is at-most-once." },
	{ "suspend_after", OPTION_INT, "failures", 0, 1000000, "20", IN_ROUTE(suspend_after),
	  .help = "Failures in a row, without a success, that suspend the route; 0 never does." },
	{ "processes", OPTION_INT, "processes", 1, 64, "1", IN_ROUTE(processes),
	  .help = "Processes of the command, each with a worker and a connection of its own." },
	{ "delivery", OPTION_DELIVERY, .fallback = "at-least-once", IN_ROUTE(delivery),
	  .help = "at-least-once, or at-most-once: a strand whose process ended without an answer is failed, and"
		  " not tried again." },
	{ "process.in_flight", OPTION_INT, "strands", 0, 1000, "0", IN_ROUTE(in_flight),
	  .help = "Most strands that a process is sent before it has answered; 0 takes the batch, and 1 where"
		  " delivery is at-most-once." },
	{ "process.deadline", OPTION_DURATION, .min = 10, .max = DAY_MS, .fallback = "30s", IN_ROUTE(deadline_ms),
	  .help = "A process that owes answers and gives none for this long is ended." },
	{ "process.grace", OPTION_DURATION, .min = 0, .max = HOUR_MS, .fallback = "5s", IN_ROUTE(grace_ms),
	  .help = "Time between SIGTERM and SIGKILL." },
	{ "process.ready", OPTION_BOOL, .fallback = "false", IN_ROUTE(says_ready),
	  .help = "The command's first line is {\"ready\":true}; nothing is sent before." },
	{ "process.start_timeout", OPTION_DURATION, .min = 10, .max = HOUR_MS, .fallback = "30s",
	  IN_ROUTE(start_timeout_ms),
	  .help = "It has to be there within this." },
	{ "process.max_requests", OPTION_INT, "strands", 0, 1000000000, "0", IN_ROUTE(max_requests),
	  .help = "Replace a process that has been sent so many; 0 never does." },
	{ "process.max_lifetime", OPTION_DURATION, .min = 100, .max = 365 * DAY_MS, .fallback = "none",
	  IN_ROUTE(max_lifetime_ms),
	  .help = "Replace a process that is older than this." },
	{ "process.max_line", OPTION_SIZE, .min = KIB, .max = GIB, .fallback = "16MiB", IN_ROUTE(max_line),
	  .help = "Most bytes of one answer." },
	{ "process.max_replies", OPTION_INT, "replies", 1, 1000000, "1000", IN_ROUTE(max_replies),
	  .help = "Most replies of one answer." },
	{ "process.stderr_rate", OPTION_INT, "lines", 1, 1000000, "100", IN_ROUTE(stderr_rate),
	  .help = "Most lines a second of a process's standard error that the log takes." },
	{ "process.restart_rate", OPTION_INT, "starts", 1, 6000, "60", IN_ROUTE(restart_rate),
	  .help = "Most starts of a process within a minute." },
	{ "process.directory", STRING(4096), .example = "/opt/dm", IN_ROUTE(directory),
	  .help = "Working directory of the processes; the service's own if left out." },
	{ "process.user", STRING(256), .example = "dm", IN_ROUTE(user),
	  .help = "User that they run as, which takes a service that runs as root." },
	{ "process.environment", OPTION_STRINGS, .min = 1, .max = 4096, .example = "MODE=live, TZ=UTC",
	  IN_ROUTE(environment),
	  .help = "NAME=value, added to the service's own environment." },
};
const struct option_table route_options = { route_fields, LENGTH(route_fields) };
_Static_assert(LENGTH(route_fields) <= LIST_OPTIONS_MAX, "a bit a row");

const char *const *option_choices(enum option_type type)
{
	static const char *const deliveries[] = { [DELIVERY_AT_LEAST_ONCE] = "at-least-once",
						  [DELIVERY_AT_MOST_ONCE] = "at-most-once", NULL };

	switch (type) {
	case OPTION_LEVEL:
		return log_level_names;
	case OPTION_FORMAT:
		return log_format_names;
	case OPTION_DELIVERY:
		return deliveries;
	default:
		return NULL;
	}
}
