#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "handle/policy.h"

/* For strandd alone: its own configuration (which may hold a password) and failpoints,
 * libpq's password, and what systemd says to its main process. */
static const char *const kept_back[] = {
	"PGPASSWORD=", "CREDENTIALS_DIRECTORY=", "NOTIFY_SOCKET=", "WATCHDOG_PID=", "WATCHDOG_USEC=",
	"LISTEN_PID=", "LISTEN_PIDFDID=", "LISTEN_FDS=", "LISTEN_FDNAMES=", "FDSTORE=", "JOURNAL_STREAM=",
};

static bool is_kept_back(const char *entry)
{
	if (!strncmp(entry, "STRANDD_", 8))
		return true;
	for (size_t i = 0; i < sizeof(kept_back) / sizeof(kept_back[0]); i++) {
		if (!strncmp(entry, kept_back[i], strlen(kept_back[i])))
			return true;
	}
	return false;
}

static size_t length(char *const *list)
{
	size_t n = 0;

	while (list && list[n])
		n++;
	return n;
}

/* `name` ends with '=' or the NUL. */
static char **find(const struct environment *v, const char *name)
{
	size_t len = strcspn(name, "=");
	char **p = v->list;

	while (*p && (strncmp(*p, name, len) || (*p)[len] != '='))
		p++;
	return p;
}

static void put(struct environment *v, char *entry)
{
	*find(v, entry) = entry;
}

static int put_user(struct environment *v, const struct run_as *who)
{
	const char *const values[] = { who->home, who->name, who->name, who->shell };
	static const char *const names[] = { "HOME", "USER", "LOGNAME", "SHELL" };

	for (size_t i = 0; who->other && i < sizeof(names) / sizeof(names[0]); i++) {
		if (asprintf(&v->own[i], "%s=%s", names[i], values[i]) < 0) {
			v->own[i] = NULL;
			return STRAND_ENOMEM;
		}
		put(v, v->own[i]);
	}
	return 0;
}

int environment_init(struct environment *ret, const struct child_policy *p, const struct run_as *who)
{
	struct environment v = { 0 };
	size_t n = 0, room = length(environ) + length(p->environment) + 5;

	v.list = calloc(room, sizeof(*v.list));
	if (!v.list)
		return STRAND_ENOMEM;
	for (char **e = environ; e && *e; e++) {
		if (!is_kept_back(*e))
			v.list[n++] = *e;
	}
	if (put_user(&v, who)) {
		environment_release(&v);
		return STRAND_ENOMEM;
	}
	for (char *const *e = p->environment; e && *e; e++)
		put(&v, *e);
	*ret = v;
	return 0;
}

void environment_release(struct environment *v)
{
	for (size_t i = 0; i < sizeof(v->own) / sizeof(v->own[0]); i++)
		free(v->own[i]);
	free(v->list);
	*v = (struct environment){ 0 };
}

const char *environment_get(const struct environment *v, const char *name)
{
	char *const *entry = find(v, name);

	return *entry ? *entry + strlen(name) + 1 : NULL;
}
