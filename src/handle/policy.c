#include "handle/policy.h"

#include <errno.h>
#include <pwd.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static void free_list(char *const *list)
{
	for (char *const *p = list; p && *p; p++)
		free(*p);
	free((void *)list);
}

static int copy_text(const char **text)
{
	if (!*text)
		return 0;
	*text = strdup(*text);
	return *text ? 0 : STRAND_ENOMEM;
}

/* What could not be copied is NULL and not the original, so that all can be freed. */
static int copy_list(char *const **list)
{
	char *const *from = *list;
	size_t n = 0;
	char **to;

	if (!from)
		return 0;
	while (from[n])
		n++;
	to = calloc(n + 1, sizeof(*to));
	*list = to;
	for (size_t i = 0; to && i < n; i++) {
		to[i] = strdup(from[i]);
		if (!to[i])
			return STRAND_ENOMEM;
	}
	return to ? 0 : STRAND_ENOMEM;
}

int child_policy_copy(struct child_policy *ret, const struct child_policy *from)
{
	struct child_policy p = *from;
	int r = 0;

	r |= copy_text(&p.name);
	r |= copy_text(&p.source);
	r |= copy_text(&p.directory);
	r |= copy_text(&p.user);
	r |= copy_list(&p.argv);
	r |= copy_list(&p.environment);
	if (r) {
		child_policy_release(&p);
		return STRAND_ENOMEM;
	}
	*ret = p;
	return 0;
}

void child_policy_release(struct child_policy *p)
{
	free((void *)p->name);
	free((void *)p->source);
	free((void *)p->directory);
	free((void *)p->user);
	free_list(p->argv);
	free_list(p->environment);
	*p = (struct child_policy){ 0 };
}

static bool same(const char *a, const char *b)
{
	return !strcmp(a ? a : "", b ? b : "");
}

bool child_policy_same_route(const struct child_policy *a, const struct child_policy *b)
{
	return same(a->name, b->name) && same(a->source, b->source);
}

static int keep(struct run_as *ret, const struct passwd *pw)
{
	struct run_as r = { .uid = pw->pw_uid, .gid = pw->pw_gid };

	if (r.uid != geteuid() || r.gid != getegid()) {
		r.other = true;
		r.name = strdup(pw->pw_name);
		r.home = strdup(pw->pw_dir);
		r.shell = strdup(pw->pw_shell);
		if (!r.name || !r.home || !r.shell) {
			run_as_release(&r);
			return STRAND_ENOMEM;
		}
	}
	*ret = r;
	return 0;
}

int run_as_find(struct run_as *ret, const char *user, struct err *e)
{
	struct passwd pw, *found = NULL;
	char *room = NULL, *more;
	int error = ERANGE, r;

	*ret = (struct run_as){ 0 };
	if (!user)
		return 0;
	for (size_t size = 1024; error == ERANGE && size <= 1048576; size *= 4) {
		more = realloc(room, size);
		if (!more) {
			free(room);
			return err_set(e, STRAND_ENOMEM, "no memory for user \"%s\"", user);
		}
		room = more;
		error = getpwnam_r(user, &pw, room, size, &found);
	}
	r = found ? keep(ret, &pw) : STRAND_ENOENT;
	free(room);
	if (r == STRAND_ENOENT)
		return err_set(e, r, "user \"%s\": %s", user, error ? strerrordesc_np(error) : "there is none");
	return r ? err_set(e, r, "no memory for user \"%s\"", user) : 0;
}

void run_as_release(struct run_as *r)
{
	free(r->name);
	free(r->home);
	free(r->shell);
	*r = (struct run_as){ 0 };
}
