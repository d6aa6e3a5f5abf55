/* strandd: moves strands between the modules of a trading system. */
#include <argp.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/signalfd.h>
#include <unistd.h>
#include <urcu.h>

#include "base/activity.h"
#include "base/log.h"
#include "base/thread.h"
#include "conf/conf.h"
#include "strandd/service.h"

#ifndef SYSCONFDIR
#define SYSCONFDIR "/etc"
#endif

const char *argp_program_version = PACKAGE_NAME " " PACKAGE_VERSION;
const char *argp_program_bug_address = NULL;

struct arguments {
	const char *config;
	const char *log_format;	/* NULL: as the configuration says */
	enum log_format format;
};

enum { KEY_LOG_FORMAT = 0x100 };

static error_t parse_option(int key, char *arg, struct argp_state *state)
{
	struct arguments *a = state->input;

	if (key == 'c') {
		a->config = arg;
	} else if (key == KEY_LOG_FORMAT) {
		a->log_format = arg;
		if (log_format_parse(arg, &a->format))
			argp_error(state, "no log format \"%s\": say auto, text, journal or json", arg);
	} else if (key == ARGP_KEY_ARG) {
		argp_error(state, "unexpected argument \"%s\"", arg);
	} else {
		return ARGP_ERR_UNKNOWN;
	}
	return 0;
}

static const struct argp_option options[] = {
	{ "config", 'c', "FILE", 0, "Configuration file (default " SYSCONFDIR "/strandd.conf)", 0 },
	{ "log-format", KEY_LOG_FORMAT, "FORMAT", 0,
	  "auto, text, journal or json, whatever the configuration says", 0 },
	{ 0 },
};

static const struct argp parser = {
	.options = options, .parser = parse_option,
	.doc = "Moves strands between the modules of a trading system through their own PostgreSQL tables.",
};

/* Blocked before the first thread starts, so that every thread inherits it. */
static int block_signals(void)
{
	sigset_t set;

	signal(SIGPIPE, SIG_IGN);
	sigemptyset(&set);
	sigaddset(&set, SIGTERM);
	sigaddset(&set, SIGINT);
	sigaddset(&set, SIGHUP);
	sigaddset(&set, SIGUSR1);
	pthread_sigmask(SIG_BLOCK, &set, NULL);
	return signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
}

int main(int argc, char **argv)
{
	struct arguments args = { .config = SYSCONFDIR "/strandd.conf" };
	struct conf *conf;
	struct err e;
	int signal_fd, code;

	argp_err_exit_status = EXIT_USAGE;
	argp_parse(&parser, argc, argv, 0, NULL, &args);
	log_set_format(args.format);
	if (conf_load(&conf, args.config, &e)) {
		log_error("%s", e.text);
		return EXIT_USAGE;
	}
	log_set_level(conf->log_level);
	log_set_format(args.log_format ? args.format : conf->log_format);
	signal_fd = block_signals();
	if (signal_fd < 0) {
		log_error("no signal descriptor");
		conf_free(conf);
		return EXIT_FAULT;
	}
	rcu_register_thread();
	activity_begin("main");
	code = EXIT_FAULT;
	if (log_start(&e))
		log_error("%s", e.text);
	else
		code = service_run(conf, signal_fd);
	log_stop();
	rcu_unregister_thread();
	close(signal_fd);
	conf_free(conf);
	return code;
}
