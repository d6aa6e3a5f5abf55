#include "strandd/arguments.h"

#include <argp.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/log.h"
#include "base/plural.h"
#include "conf/print.h"
#include "conf/report.h"

const char *argp_program_version = PACKAGE_NAME " " PACKAGE_VERSION;
const char *argp_program_bug_address = NULL;

enum { OPTION_SET = 0x100, OPTION_CHECK, OPTION_PRINT, OPTION_LOG_FORMAT };

static const struct argp_option options[] = {
	{ "config", 'c', "FILE", 0, "Configuration file (default " SYSCONFDIR "/strandd.conf)", 0 },
	{ "set", OPTION_SET, "PATH=VALUE", 0, "A setting over the files' and the environment's; may be repeated", 0 },
	{ "log-format", OPTION_LOG_FORMAT, "FORMAT", 0, "The same as --set log.format=FORMAT", 0 },
	{ "check-config", OPTION_CHECK, 0, 0, "Say all that is wrong with the configuration, and exit", 0 },
	{ "print-config", OPTION_PRINT, 0, 0, "Print what counts and where it comes from, and exit", 0 },
	{ 0 },
};

static void add_set(struct arguments *a, struct argp_state *state, const char *set)
{
	const char **sets = realloc(a->sets, (a->n_sets + 2) * sizeof(*sets));

	if (!sets)
		argp_failure(state, EXIT_FAULT, 0, "out of memory");
	a->sets = sets;
	sets[a->n_sets++] = set;
	sets[a->n_sets] = NULL;
}

/* In force at once: errors about the configuration are to have the format, too.  The
 * text stays for ever, as argv does. */
static void add_log_format(struct arguments *a, struct argp_state *state, const char *text)
{
	enum log_format format;
	char *set;

	if (log_format_parse(text, &format)) {
		argp_error(state, "no log format \"%s\": say auto, text, journal or json", text);
		return;
	}
	log_set_format(format);
	if (asprintf(&set, "log.format=%s", text) < 0)
		argp_failure(state, EXIT_FAULT, 0, "out of memory");
	add_set(a, state, set);
}

static error_t parse_option(int key, char *arg, struct argp_state *state)
{
	struct arguments *a = state->input;

	switch (key) {
	case 'c':
		a->file = arg;
		return 0;
	case OPTION_SET:
		add_set(a, state, arg);
		return 0;
	case OPTION_LOG_FORMAT:
		add_log_format(a, state, arg);
		return 0;
	case OPTION_CHECK:
		a->action = ACTION_CHECK;
		return 0;
	case OPTION_PRINT:
		a->action = ACTION_PRINT;
		return 0;
	case ARGP_KEY_ARG:
		argp_error(state, "unexpected argument \"%s\"", arg);
		return 0;
	default:
		return ARGP_ERR_UNKNOWN;
	}
}

static const struct argp parser = {
	.options = options, .parser = parse_option,
	.doc = "Moves strands between the modules of a trading system through their own PostgreSQL tables.",
};

void arguments_parse(struct arguments *a, int argc, char **argv)
{
	*a = (struct arguments){ .file = SYSCONFDIR "/strandd.conf" };
	argp_err_exit_status = EXIT_USAGE;
	argp_parse(&parser, argc, argv, 0, NULL, a);
}

void arguments_release(struct arguments *a)
{
	free(a->sets);
}

/* Somebody who only asks gets plain lines, a service the log's. */
static void tell_line(const struct arguments *a, bool warning, const char *text)
{
	if (a->action != ACTION_SERVE)
		fprintf(stderr, "%s\n", text);
	else if (warning)
		log_warning("%s", text);
	else
		log_error("%s", text);
}

static void tell(const struct arguments *a, const struct reports *reports)
{
	char more[64];
	size_t told = 0;

	for (size_t i = 0; i < reports->n; i++) {
		tell_line(a, reports->list[i].warning, reports->list[i].text);
		told += !reports->list[i].warning;
	}
	if (reports->n_errors > told) {
		snprintf(more, sizeof(more), "and %zu error%s more", reports->n_errors - told,
			 plural(reports->n_errors - told));
		tell_line(a, false, more);
	}
}

/* Writes what was asked for; a full disk is not to pass for success. */
static int print_text(const struct buf *text)
{
	if (text->failed) {
		fputs("out of memory\n", stderr);
		return EXIT_FAULT;
	}
	if (fwrite(text->data, 1, text->len, stdout) == text->len && fflush(stdout) == 0)
		return EXIT_OK;
	fprintf(stderr, "standard output: cannot be written: %s\n", strerror(errno));
	return EXIT_FAULT;
}

static int print(const struct conf *conf)
{
	struct buf text;
	int code;

	buf_init(&text);
	print_conf(&text, conf);
	code = print_text(&text);
	buf_release(&text);
	return code;
}

static int good(const struct conf *conf)
{
	struct buf text;
	int code;

	if (!conf->n_routes) {
		fprintf(stderr, "%s: no routes: there is nothing to serve\n", conf->file);
		return EXIT_USAGE;
	}
	buf_init(&text);
	buf_addf(&text, "%s: good: %zu route%s of %zu, %zu module%s, %d worker%s\n", conf->file, conf->n_routes,
		 plural(conf->n_routes), conf->n_routes + conf->n_left_out, conf->n_modules,
		 plural(conf->n_modules), conf->workers_threads, plural((unsigned)conf->workers_threads));
	code = print_text(&text);
	buf_release(&text);
	return code;
}

static void tell_left_out(const struct conf *conf)
{
	if (conf->n_left_out)
		log_info("notifications.channels: %zu of %zu routes are served here, %zu are left to others",
			 conf->n_routes, conf->n_routes + conf->n_left_out, conf->n_left_out);
}

int arguments_configure(const struct arguments *a, struct conf **ret_conf)
{
	const struct conf_request request = { .file = a->file, .sets = a->sets, .environment = (const char *const *)environ };
	struct reports reports = { 0 };
	struct conf *conf = NULL;
	int ret = conf_read(&conf, &request, &reports), code;

	*ret_conf = NULL;
	tell(a, &reports);
	reports_release(&reports);
	if (ret == STRAND_ENOMEM)
		log_error("out of memory");
	if (ret < 0)
		return ret == STRAND_ENOMEM ? EXIT_FAULT : EXIT_USAGE;
	if (a->action == ACTION_SERVE) {
		log_set_level(conf->log_level);
		log_set_format(conf->log_format);
		tell_left_out(conf);
		*ret_conf = conf;
		return EXIT_OK;
	}
	code = a->action == ACTION_CHECK ? good(conf) : print(conf);
	conf_free(conf);
	return code;
}
