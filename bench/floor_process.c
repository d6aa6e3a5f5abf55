#include "floor_process.h"

#include <fcntl.h>
#include <spawn.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "pg/array.h"

#define READY "{\"ready\":"	/* begins a line that answers nothing */

int floor_process_start(struct floor_process *p, char *const *argv)
{
	posix_spawn_file_actions_t actions;
	int in[2], out[2], failed;

	if (pipe2(in, O_CLOEXEC) || pipe2(out, O_CLOEXEC))
		return -1;
	posix_spawn_file_actions_init(&actions);
	posix_spawn_file_actions_adddup2(&actions, in[0], STDIN_FILENO);
	posix_spawn_file_actions_adddup2(&actions, out[1], STDOUT_FILENO);
	failed = posix_spawnp(&p->pid, argv[0], &actions, NULL, argv, environ);
	posix_spawn_file_actions_destroy(&actions);
	close(in[0]);
	close(out[1]);
	p->in = in[1];
	p->out = fdopen(out[0], "r");
	buf_init(&p->sent);
	return failed || !p->out ? -1 : 0;
}

void floor_process_stop(struct floor_process *p)
{
	close(p->in);
	waitpid(p->pid, NULL, 0);
	fclose(p->out);
	free(p->line);
	buf_release(&p->sent);
}

/* A batch of answers has room in the pipe while the requests are written: the answers
 * of the benchmark's handler are short. */
static int write_all(int fd, const char *data, size_t len)
{
	while (len) {
		ssize_t n = write(fd, data, len);

		if (n < 0)
			return -1;
		data += n;
		len -= (size_t)n;
	}
	return 0;
}

/* {"id":"AD_1",...,"replies":[...]}: what stands there, as it stands there. */
static int take_answer(char *line, size_t len, struct buf *ids, struct buf *replies)
{
	char *id = strstr(line, "\"id\":\""), *end = id ? strchr(id + 6, '"') : NULL;
	char *list = strstr(line, "\"replies\":");

	while (len && (line[len - 1] == '\n' || line[len - 1] == '}'))
		if (line[--len] == '}')
			break;
	if (!end || !list || line + len < list + 10)
		return -1;
	array_item(ids, id + 6, (size_t)(end - id - 6));
	array_item(replies, list + 10, (size_t)(line + len - list - 10));
	return 0;
}

int floor_process_exchange(struct floor_process *p, const PGresult *handed, const char *tag, const char *source,
			   struct buf *ids, struct buf *attempts, struct buf *replies)
{
	int n = PQntuples(handed);

	buf_clear(&p->sent);
	for (int i = 0; i < n; i++)
		buf_addf(&p->sent, "{\"v\":1,\"tag\":\"%s\",\"source\":\"%s\",\"attempt\":%s,\"deadline_ms\":30000,"
			 "\"strand\":%s}\n", tag, source, PQgetvalue(handed, i, 2), PQgetvalue(handed, i, 3));
	if (p->sent.failed || write_all(p->in, p->sent.data, p->sent.len))
		return -1;
	for (int i = 0; i < n; i++) {
		ssize_t len;

		do
			len = getline(&p->line, &p->line_size, p->out);
		while (len > 0 && !strncmp(p->line, READY, strlen(READY)));
		if (len <= 0 || take_answer(p->line, (size_t)len, ids, replies))
			return -1;
		array_item(attempts, "1", 1);
	}
	return 0;
}
