/* The daemon's parts, started in order and stopped in reverse.
 *
 * service_start resolves the routes, waiting for the server if it must, and
 * starts the threads; service_wait returns when they are done.  Main thread
 * only.
 */
#ifndef STRANDD_STRANDD_SERVICE_H
#define STRANDD_STRANDD_SERVICE_H

#include "conf/conf.h"

/* Serves until told to stop; `signal_fd` is a signalfd(2) of SIGTERM, SIGINT
 * and SIGHUP, all of them blocked.  Returns an enum exit_code. */
int service_run(const struct conf *conf, int signal_fd);

#endif
