/* Drives a listener of libstrand from a test: CONNINFO MODULE INTERVAL_MS PAUSE_MS [TAG SOURCE]...
 * Module "-" is NULL.  Prints "started", "<tag> TAB <id> TAB <row>" for each strand, "away"
 * each time that there is no connection, and "stopped" after SIGTERM; after a strand it
 * pauses.  With PAUSE_MS -1 it uses strand_listener_run, whose function returns 7 for an
 * id "AD_end", and another thread stops it half a second after "AD_stop". */
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <strand/listener.h>

static struct strand_listener *listener;

static void on_term(int number)
{
	(void)number;
	strand_listener_stop(listener);
}

static void say(const char *line)
{
	puts(line);
	fflush(stdout);
}

static int add_tags(int argc, char **argv)
{
	for (int i = 5; i + 1 < argc; i += 2) {
		int ret = strand_listener_add(listener, argv[i], argv[i + 1]);

		if (ret)
			return ret;
	}
	return 0;
}

static int start(void)
{
	int ret;

	while ((ret = strand_listener_start(listener, 500)) == STRAND_ECONN || ret == STRAND_ETIMEOUT)
		say("away");
	if (!ret)
		say("started");
	return ret;
}

static int listen(useconds_t pause_us)
{
	const struct strand *strand;
	int ret;

	for (;;) {
		ret = strand_listener_next(listener, 300, &strand);
		if (ret == STRAND_ECONN)
			say("away");
		else if (ret == STRAND_EPROTO)
			say(strand_listener_error(listener));
		else if (ret && ret != STRAND_ETIMEOUT)
			return ret;
		if (ret)
			continue;
		printf("%s\t%s\t%s\n", strand_tag(strand), strand_id(strand), strand_json(strand));
		fflush(stdout);
		usleep(pause_us);
	}
}

static void *stop_later(void *arg)
{
	usleep(500000);
	strand_listener_stop(arg);
	return NULL;
}

static int on_strand(const struct strand *strand, void *arg)
{
	pthread_t *thread = arg;

	printf("%s\t%s\t%s\n", strand_tag(strand), strand_id(strand), strand_json(strand));
	fflush(stdout);
	if (!strcmp(strand_id(strand), "AD_stop") && pthread_create(thread, NULL, stop_later, listener))
		return -1;
	return strcmp(strand_id(strand), "AD_end") ? 0 : 7;
}

static int run(void)
{
	pthread_t thread;
	int ret = strand_listener_run(listener, on_strand, &thread);

	if (ret == STRAND_ESTOPPED)
		pthread_join(thread, NULL);
	else
		printf("run %d\n", ret);
	return ret == 7 ? STRAND_ESTOPPED : ret;
}

int main(int argc, char **argv)
{
	int ret;

	if (argc < 5)
		return 2;
	ret = strand_listener_open(&listener, argv[1], strcmp(argv[2], "-") ? argv[2] : NULL);
	if (!ret)
		ret = add_tags(argc, argv);
	strand_listener_set_interval(listener, atoi(argv[3]));
	signal(SIGTERM, on_term);
	if (!ret)
		ret = start();
	if (!ret)
		ret = atoi(argv[4]) < 0 ? run() : listen((useconds_t)atoi(argv[4]) * 1000);
	if (ret == STRAND_ESTOPPED)
		say("stopped");
	else
		printf("%s\t%s\n", strand_error_name(ret), strand_listener_error(listener));
	strand_listener_close(listener);
	return ret != STRAND_ESTOPPED;
}
