/* strandctl reload: tells the strandd of this machine to read its configuration again,
 * or to replace its handlers' processes. */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "strandctl/ctl.h"
#include "strandctl/options.h"
#include "strandctl/table.h"

struct args {
	struct ctl *ctl;
	bool handlers;
};

enum { OPTION_HANDLERS = OPTION_FIRST };

static const struct argp_option options[] = {
	{ "handlers", OPTION_HANDLERS, 0, 0, "Replace the handlers' processes, of each route one after the other", 0 },
	{ 0 },
};

static error_t parse(int key, char *arg, struct argp_state *state)
{
	struct args *args = state->input;

	(void)arg;
	switch (key) {
	case ARGP_KEY_INIT:
		state->child_inputs[0] = args->ctl;
		return 0;
	case OPTION_HANDLERS:
		args->handlers = true;
		return 0;
	default:
		return ARGP_ERR_UNKNOWN;
	}
}

static const struct argp argp = {
	.options = options,
	.parser = parse,
	.doc = "Sends SIGHUP to the strandd that serves this configuration on this machine: it reads the"
	       " configuration again, and its log says what came of it.  With --handlers it gets SIGUSR2: each"
	       " handler's process is replaced when it has answered what it was sent.  It is found through its"
	       " stats.socket.",
	.children = options_children,
};

static int connect_to(const char *path, struct err *e)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	if (fd < 0)
		return err_set(e, STRAND_ESYS, "socket: %s", strerror(errno));
	/* Its length was checked with the configuration. */
	strncpy(address.sun_path, path, sizeof(address.sun_path) - 1);
	if (connect(fd, (struct sockaddr *)&address, sizeof(address)) == 0)
		return fd;
	err_set(e, STRAND_ESYS, "no strandd answers at %s: %s; is it running, with this configuration?", path,
		strerror(errno));
	close(fd);
	return STRAND_ESYS;
}

/* The kernel knows who listens there. */
static int find_daemon(struct ctl *ctl, pid_t *ret_pid, struct err *e)
{
	struct ucred peer;
	socklen_t size = sizeof(peer);
	int fd, ret = ctl_load_conf(ctl, e);

	if (ret)
		return ret;
	if (!ctl->conf || !ctl->conf->stats_socket)
		return err_set(e, STRAND_EINVAL, "%s sets no stats.socket, through which strandd is found; set it, or send"
			       " the signal by hand", ctl->config);
	fd = connect_to(ctl->conf->stats_socket, e);
	if (fd < 0)
		return fd;
	if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &size))
		ret = err_set(e, STRAND_ESYS, "SO_PEERCRED: %s", strerror(errno));
	close(fd);
	*ret_pid = peer.pid;
	return ret;
}

static const struct column columns[] = {
	{ "PID", COLUMN_NUMBER, FOR_PROGRAMS },
	{ "SIGNAL", COLUMN_TEXT, FOR_PROGRAMS },
};

static void tell(struct ctl *ctl, pid_t pid, bool handlers)
{
	const char *name = handlers ? "SIGUSR2" : "SIGHUP";
	struct table *table;
	char number[16];
	const char *values[] = { number, name };

	snprintf(number, sizeof(number), "%d", (int)pid);
	ctl_say(ctl, "strandd (pid %s) was sent %s: %s; its log tells what came of it", number, name,
		handlers ? "it replaces its handlers' processes" : "it reads its configuration again");
	if (!ctl->json)
		return;
	table = table_new("reload", true, columns, 2);
	table_fill(table, values);
	table_print(table);
	table_free(table);
}

int command_reload(struct ctl *ctl, int argc, char **argv)
{
	struct args args = { .ctl = ctl };
	struct err e;
	pid_t pid = 0;
	int ret;

	options_parse(&argp, argc, argv, &args);
	ret = find_daemon(ctl, &pid, &e);
	if (!ret && kill(pid, args.handlers ? SIGUSR2 : SIGHUP))
		ret = err_set(&e, STRAND_ESYS, "cannot signal strandd (pid %d): %s; run it as root, or as strandd's user",
			      (int)pid, strerror(errno));
	if (ret)
		return ctl_fail(ctl, &e);
	tell(ctl, pid, args.handlers);
	return EXIT_OK;
}
