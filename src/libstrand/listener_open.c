/* Making a listener: its tags and tables; and what it leaves. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "libstrand/listener.h"
#include "libstrand/modules.h"
#include "libstrand/text.h"

enum {
	CHANNEL_BYTES = 58,		/* with ":high" 63, which is all that PostgreSQL has */
	WINDOW_IDS = 65536,
	WINDOW_BYTES = 8 << 20,
	INTERVAL_MS = 30000,
};

static int no_memory(struct strand_listener *l)
{
	return err_set(&l->err, STRAND_ENOMEM, "out of memory");
}

/* <module>:<action>, as strandd.check_tag has it. */
static int check_tag(struct strand_listener *l, const char *tag)
{
	static const char blanks[] = " \t\n\v\f\r";
	size_t module = strcspn(tag, ":"), len = strlen(tag);

	if (!module || module + 1 >= len || strchr(tag + module + 1, ':') || strcspn(tag, blanks) < len)
		return err_set(&l->err, STRAND_EINVAL, "the tag \"%.80s\" is not of the form <module>:<action>", tag);
	if (len > CHANNEL_BYTES)
		return err_set(&l->err, STRAND_EINVAL, "the tag \"%.80s\" has %zu bytes, %d are possible", tag, len,
			       CHANNEL_BYTES);
	return 0;
}

/* Its index, after adding it where it is missing; SIZE_MAX: no memory. */
static size_t source_index(struct strand_listener *l, const char *name)
{
	struct listen_source *grown;

	for (size_t i = 0; i < l->n_sources; i++)
		if (!strcmp(l->sources[i].name, name))
			return i;
	grown = realloc(l->sources, (l->n_sources + 1) * sizeof(*grown));
	if (!grown)
		return SIZE_MAX;
	l->sources = grown;
	grown[l->n_sources] = (struct listen_source){ .name = strdup(name) };
	return grown[l->n_sources].name ? l->n_sources++ : SIZE_MAX;
}

static void route_release(struct listen_route *r)
{
	free(r->tag);
	free(r->tags);
	free(r->channel);
	free(r->high_channel);
}

static int make_route(struct strand_listener *l, struct listen_route *r, const char *tag, size_t source)
{
	struct buf tags = BUF_INIT, high = BUF_INIT;
	bool utf8;

	utf8 = text_add_tags(&tags, &tag, 1);
	*r = (struct listen_route){ .tag = strdup(tag), .channel = strdup(tag), .source = source };
	for (char *p = r->channel; p && *p; p++)
		if (*p == ':')
			*p = '_';
	buf_addf(&high, "%s:high", r->channel ? r->channel : "");
	r->tags = buf_steal(&tags);
	r->high_channel = buf_steal(&high);
	if (!r->tag || !r->tags || !r->channel || !r->high_channel)
		return no_memory(l);
	return utf8 ? 0 : err_set(&l->err, STRAND_EINVAL, "the tag \"%s\" is not UTF-8", tag);
}

static int add_route(struct strand_listener *l, const char *tag, const char *source_name)
{
	size_t source = source_index(l, source_name);
	struct listen_route *grown, route;
	int ret;

	if (source == SIZE_MAX)
		return no_memory(l);
	for (size_t i = 0; i < l->n_routes; i++)
		if (l->routes[i].source == source && !strcmp(l->routes[i].tag, tag))
			return err_set(&l->err, STRAND_EINVAL, "the tag \"%s\" of %s is listened on already", tag, source_name);
	grown = realloc(l->routes, (l->n_routes + 1) * sizeof(*grown));
	if (!grown)
		return no_memory(l);
	l->routes = grown;
	ret = make_route(l, &route, tag, source);
	if (ret)
		route_release(&route);
	else
		grown[l->n_routes++] = route;
	return ret;
}

int strand_listener_add(struct strand_listener *l, const char *tag, const char *source)
{
	int ret;

	l->err = (struct err){ 0 };
	if (l->started)
		return err_set(&l->err, STRAND_EINVAL, "the listener has started already");
	if (!tag || !source)
		return err_set(&l->err, STRAND_EINVAL, "no %s is given: NULL", tag ? "table" : "tag");
	ret = check_tag(l, tag);
	return ret ? ret : add_route(l, tag, source);
}

static int add_module(struct strand_listener *l, const char *module)
{
	int ret = 0;

	for (size_t i = 0; module && !ret && i < n_spec_routes; i++)
		if (!strcmp(spec_routes[i].module, module))
			ret = add_route(l, spec_routes[i].tag, spec_routes[i].source);
	return ret;
}

int strand_listener_open(struct strand_listener **ret_listener, const char *conninfo, const char *module)
{
	struct strand_listener *l = calloc(1, sizeof(*l));
	int ret;

	*ret_listener = l;
	if (!l)
		return STRAND_ENOMEM;
	pending_init(&l->pending);
	l->interval_ms = INTERVAL_MS;
	l->stop_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (l->stop_fd < 0)
		return err_set(&l->err, STRAND_ESYS, "eventfd: %s", strerror(errno));
	ret = link_check_conninfo(conninfo, &l->err);
	if (ret)
		return ret;
	l->conninfo = conninfo ? strdup(conninfo) : NULL;
	if (conninfo && !l->conninfo)
		return no_memory(l);
	l->link = (struct link){ .conninfo = l->conninfo, .search_path = "public, pg_temp", .program = "libstrand listener",
				 .pin_plans = true };
	ret = add_module(l, module);
	/* Without it nothing starts: so it comes last. */
	return ret || !window_init(&l->window, WINDOW_IDS, WINDOW_BYTES) ? ret : no_memory(l);
}

void strand_listener_close(struct strand_listener *l)
{
	if (!l)
		return;
	link_release(&l->link);
	catchup_break_off(l);
	view_release(&l->current);
	for (int i = 0; i < 2; i++)
		chunk_release(&l->chunks[i]);
	pending_release(&l->pending);
	window_release(&l->window);
	position_release(&l->base);
	for (size_t i = 0; i < l->n_routes; i++)
		route_release(&l->routes[i]);
	for (size_t i = 0; i < l->n_sources; i++) {
		free(l->sources[i].name);
		table_release(&l->sources[i].table);
	}
	free(l->routes);
	free(l->sources);
	free(l->conninfo);
	if (l->stop_fd >= 0)
		close(l->stop_fd);
	free(l);
}
