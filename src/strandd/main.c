/* strandd: moves strands between the modules of a trading system. */
#include <signal.h>
#include <sys/signalfd.h>
#include <unistd.h>
#include <urcu.h>

#include "base/activity.h"
#include "base/log.h"
#include "conf/conf.h"
#include "strandd/arguments.h"
#include "strandd/service.h"

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
	sigaddset(&set, SIGUSR2);
	pthread_sigmask(SIG_BLOCK, &set, NULL);
	return signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
}

static int serve(const struct conf *conf)
{
	int signal_fd = block_signals(), code = EXIT_FAULT;
	struct err e;

	if (signal_fd < 0) {
		log_error("no signal descriptor");
		return EXIT_FAULT;
	}
	rcu_register_thread();
	activity_begin("main");
	if (log_start(&e))
		log_error("%s", e.text);
	else
		code = service_run(conf, signal_fd);
	log_stop();
	rcu_unregister_thread();
	close(signal_fd);
	return code;
}

int main(int argc, char **argv)
{
	struct arguments arguments;
	struct conf *conf;
	int code;

	arguments_parse(&arguments, argc, argv);
	code = arguments_configure(&arguments, &conf);
	if (conf)
		code = serve(conf);
	conf_free(conf);
	arguments_release(&arguments);
	return code;
}
