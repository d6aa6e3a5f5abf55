#include "stats/server.h"

#include <microhttpd.h>
#include <poll.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/activity.h"
#include "base/beat.h"
#include "base/buf.h"
#include "base/clock.h"
#include "base/event.h"
#include "base/log.h"
#include "base/thread.h"
#include "stats/socket.h"

#define MAX_CONNECTIONS 16
#define MAX_CONNECTION_BYTES 16384	/* request line and headers of one client */
#define IDLE_SECONDS 5u			/* libmicrohttpd's: a client that sends nothing */
#define LIFE_MS 10000			/* ours: one that sends a byte now and then */
#define CONTENT_TYPE "text/plain; version=0.0.4; charset=utf-8"

/* A connection, so that the thread can end one that lives too long. */
struct slot {
	int fd;			/* -1 = free */
	int64_t deadline;
};

struct stats_server {
	struct metrics *metrics;
	struct unix_socket socket;
	struct MHD_Daemon *http;
	struct thread thread;
	struct event stop;
	/* The stats thread's. */
	struct slot slots[MAX_CONNECTIONS];
	bool closed;		/* a connection, since the last look */
};

static void __attribute__((format(printf, 2, 0))) log_http(void *arg, const char *fmt, va_list args)
{
	char text[256];
	int n;

	(void)arg;
	n = vsnprintf(text, sizeof(text), fmt, args);
	if (n > 0)
		log_debug("http: %.*s", (int)strcspn(text, "\n"), text);
}

static void on_connection(void *arg, struct MHD_Connection *connection, void **slot_of,
			  enum MHD_ConnectionNotificationCode what)
{
	struct stats_server *s = arg;
	const union MHD_ConnectionInfo *info;
	struct slot *slot = *slot_of;

	if (what == MHD_CONNECTION_NOTIFY_CLOSED) {
		if (slot)
			slot->fd = -1;
		s->closed = true;
		return;
	}
	info = MHD_get_connection_info(connection, MHD_CONNECTION_INFO_CONNECTION_FD);
	for (slot = s->slots; info && slot < s->slots + MAX_CONNECTIONS; slot++) {
		if (slot->fd >= 0)
			continue;
		slot->fd = info->connect_fd;
		slot->deadline = clock_after_ms(LIFE_MS);
		*slot_of = slot;
		return;
	}
}

/* Shuts down what is overdue; libmicrohttpd then sees the end and closes it.
 * Returns milliseconds until the next is, -1 when there are no connections. */
static int end_overdue(struct stats_server *s)
{
	int wait = -1;

	for (struct slot *slot = s->slots; slot < s->slots + MAX_CONNECTIONS; slot++) {
		int left;

		if (slot->fd < 0)
			continue;
		left = clock_left_ms(slot->deadline);
		if (left == 0) {
			shutdown(slot->fd, SHUT_RDWR);
			left = 100;	/* until its close is noticed */
		}
		if (wait < 0 || left < wait)
			wait = left;
	}
	return wait;
}

/* Takes `response`. */
static enum MHD_Result answer(struct MHD_Connection *connection, unsigned status,
			      struct MHD_Response *response)
{
	enum MHD_Result r;

	if (!response)
		return MHD_NO;
	MHD_add_response_header(response, MHD_HTTP_HEADER_CONNECTION, "close");
	r = MHD_queue_response(connection, status, response);
	MHD_destroy_response(response);
	return r;
}

static enum MHD_Result refuse(struct MHD_Connection *connection, unsigned status, const char *text)
{
	struct MHD_Response *response = MHD_create_response_from_buffer(
		strlen(text), (void *)(uintptr_t)text, MHD_RESPMEM_PERSISTENT);

	if (response) {
		MHD_add_response_header(response, MHD_HTTP_HEADER_CONTENT_TYPE, "text/plain");
		if (status == MHD_HTTP_METHOD_NOT_ALLOWED)
			MHD_add_response_header(response, MHD_HTTP_HEADER_ALLOW, "GET, HEAD");
	}
	return answer(connection, status, response);
}

static enum MHD_Result send_metrics(struct stats_server *s, struct MHD_Connection *connection)
{
	struct MHD_Response *response;
	struct buf text;
	size_t len;
	char *data;

	buf_init(&text);
	metrics_write(s->metrics, &text);
	len = text.len;
	data = buf_steal(&text);
	if (!data) {
		buf_release(&text);
		return refuse(connection, MHD_HTTP_SERVICE_UNAVAILABLE, "out of memory\n");
	}
	response = MHD_create_response_from_buffer(len, data, MHD_RESPMEM_MUST_FREE);
	if (response)
		MHD_add_response_header(response, MHD_HTTP_HEADER_CONTENT_TYPE, CONTENT_TYPE);
	else
		free(data);
	return answer(connection, MHD_HTTP_OK, response);
}

static enum MHD_Result on_request(void *arg, struct MHD_Connection *connection, const char *url,
				  const char *method, const char *version, const char *upload,
				  size_t *upload_size, void **request)
{
	(void)version;
	(void)upload;
	(void)upload_size;
	(void)request;
	if (strcmp(url, "/metrics") != 0)
		return refuse(connection, MHD_HTTP_NOT_FOUND, "only /metrics is here\n");
	if (strcmp(method, MHD_HTTP_METHOD_GET) != 0 && strcmp(method, MHD_HTTP_METHOD_HEAD) != 0)
		return refuse(connection, MHD_HTTP_METHOD_NOT_ALLOWED, "read-only: GET or HEAD\n");
	return send_metrics(arg, connection);
}

static int http_wait_ms(struct MHD_Daemon *http, int wait)
{
	MHD_UNSIGNED_LONG_LONG ms;

	if (MHD_get_timeout(http, &ms) == MHD_YES && (wait < 0 || ms < (unsigned)wait))
		return (int)ms;
	return wait;
}

/* `wait` in milliseconds, -1 for ever; at most until the next sign of life is due. */
static int slice(int wait)
{
	return beat_left_ms(wait < 0 ? INT64_MAX : clock_after_ms(wait));
}

static void serve(void *arg)
{
	struct stats_server *s = arg;
	const union MHD_DaemonInfo *info = MHD_get_daemon_info(s->http, MHD_DAEMON_INFO_EPOLL_FD);
	struct pollfd fds[2] = {
		{ .fd = s->stop.fd, .events = POLLIN },
		{ .fd = info ? info->epoll_fd : -1, .events = POLLIN },
	};

	activity_set("serving");
	for (;;) {
		int wait = http_wait_ms(s->http, end_overdue(s));

		/* At its limit libmicrohttpd stops to listen, and begins again only
		 * in the run after the one that closed a connection. */
		if (s->closed)
			wait = 0;
		s->closed = false;
		if (poll(fds, 2, slice(wait)) > 0 && fds[0].revents)
			return;
		beat_now();
		MHD_run(s->http);
	}
}

static int http_start(struct stats_server *s, struct err *e)
{
	s->http = MHD_start_daemon(MHD_USE_EPOLL | MHD_USE_ERROR_LOG, 0, NULL, NULL, on_request, s,
				   MHD_OPTION_EXTERNAL_LOGGER, log_http, NULL,
				   MHD_OPTION_LISTEN_SOCKET, s->socket.fd,
				   MHD_OPTION_CONNECTION_LIMIT, (unsigned)MAX_CONNECTIONS,
				   MHD_OPTION_CONNECTION_MEMORY_LIMIT, (size_t)MAX_CONNECTION_BYTES,
				   MHD_OPTION_CONNECTION_TIMEOUT, IDLE_SECONDS,
				   MHD_OPTION_NOTIFY_CONNECTION, on_connection, s,
				   MHD_OPTION_END);
	if (!s->http)
		return err_set(e, STRAND_ESYS, "stats socket \"%s\": libmicrohttpd did not start",
			       s->socket.addr.sun_path);
	return 0;
}

int stats_server_start(struct stats_server **ret_server, const char *path, struct metrics *m,
		       struct err *e)
{
	struct stats_server *s = calloc(1, sizeof(*s));
	int r;

	if (!s)
		return err_set(e, STRAND_ENOMEM, "out of memory");
	s->metrics = m;
	for (int i = 0; i < MAX_CONNECTIONS; i++)
		s->slots[i].fd = -1;
	r = event_init(&s->stop);
	if (r < 0) {
		err_set(e, r, "stats socket \"%s\": no event descriptor", path);
		goto free_server;
	}
	r = unix_socket_listen(&s->socket, path, e);
	if (r < 0)
		goto release_event;
	r = http_start(s, e);
	if (r < 0)
		goto close_socket;
	r = thread_start(&s->thread, "stats", serve, s, e);
	if (r < 0)
		goto stop_http;
	*ret_server = s;
	return 0;

stop_http:
	unix_socket_unlink(&s->socket);
	MHD_stop_daemon(s->http);
	goto release_event;
close_socket:
	unix_socket_unlink(&s->socket);
	close(s->socket.fd);
release_event:
	event_release(&s->stop);
free_server:
	free(s);
	return r;
}

void stats_server_stop(struct stats_server *s)
{
	if (!s)
		return;
	event_signal(&s->stop);
	thread_join(&s->thread);
	unix_socket_unlink(&s->socket);
	MHD_stop_daemon(s->http);	/* closes the connections and the listening socket */
	event_release(&s->stop);
	free(s);
}
