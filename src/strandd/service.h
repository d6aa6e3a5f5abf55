/* The daemon's parts, started in order and stopped in reverse. */
#ifndef STRANDD_STRANDD_SERVICE_H
#define STRANDD_STRANDD_SERVICE_H

#include "conf/conf.h"

/* Resolves the routes, waiting for the server if it must, starts the threads and
 * serves until told to stop.  `signal_fd` is a non-blocking signalfd(2) of SIGTERM,
 * SIGINT, SIGHUP and SIGUSR1, all of them blocked.  Returns an enum exit_code.  Main thread
 * only. */
int service_run(const struct conf *conf, int signal_fd);

#endif
