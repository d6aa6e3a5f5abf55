#include "handle/command.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* What execvp(3) uses where PATH is not set. */
#define DEFAULT_PATH "/bin:/usr/bin"

/* 0 or an errno value. */
static int check_file(int at, const char *path)
{
	struct stat st;

	if (fstatat(at, path, &st, 0) < 0)
		return errno;
	if (!S_ISREG(st.st_mode))
		return EACCES;
	return faccessat(at, path, X_OK, AT_EACCESS) < 0 ? errno : 0;
}

/* As execvp(3) looks: what may not be executed is passed over, and remembered. */
static int search(const char *name, int at, const char *path)
{
	int found = ENOENT;

	for (const char *p = path; ; p++) {
		size_t len = strcspn(p, ":");
		char file[PATH_MAX];
		int n = snprintf(file, sizeof(file), "%.*s%s%s", (int)len, p, len ? "/" : "", name), r;

		r = n < 0 || (size_t)n >= sizeof(file) ? ENAMETOOLONG : check_file(at, file);
		if (!r)
			return 0;
		if (r == EACCES)
			found = r;
		p += len;
		if (!*p)
			return found;
	}
}

int command_check(const char *name, int at, const char *path, struct err *e)
{
	int r = strchr(name, '/') ? check_file(at, name) : search(name, at, path ? path : DEFAULT_PATH);

	if (!r)
		return 0;
	return err_set(e, STRAND_ENOENT, "\"%s\": %s%s", name, strerrordesc_np(r),
		       strchr(name, '/') ? "" : " (in none of PATH's directories)");
}

int command_make(struct command *c, const struct child_policy *p, const struct run_as *who)
{
	static char setpriv[] = "setpriv", pdeathsig[] = "--pdeathsig", signal_name[] = "KILL",
		    groups[] = "--init-groups", end[] = "--";
	size_t n = 0, i = 0;

	while (p->argv[n])
		n++;
	c->argv = calloc(n + 8, sizeof(*c->argv));
	if (!c->argv)
		return STRAND_ENOMEM;
	c->argv[i++] = setpriv;
	c->argv[i++] = pdeathsig;
	c->argv[i++] = signal_name;
	if (who->other) {
		snprintf(c->uid, sizeof(c->uid), "--reuid=%u", (unsigned)who->uid);
		snprintf(c->gid, sizeof(c->gid), "--regid=%u", (unsigned)who->gid);
		c->argv[i++] = c->uid;
		c->argv[i++] = c->gid;
		c->argv[i++] = groups;
	}
	c->argv[i++] = end;
	memcpy(c->argv + i, p->argv, n * sizeof(*c->argv));
	return 0;
}

void command_release(struct command *c)
{
	free(c->argv);
	c->argv = NULL;
}
