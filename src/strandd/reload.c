#include "strandd/reload.h"

#include "base/activity.h"
#include "base/buf.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/plural.h"
#include "conf/option.h"
#include "conf/value.h"

#define CATCH_UP_MS 2000	/* a first pass that takes longer goes on while the old ones drain */
#define READY_MS 30000		/* a new generation that cannot connect within this is taken back */

/* Of lines that answer an operator's SIGHUP: each is told, however often. */
static const struct log_fields answer = { .fold = LOG_FOLD_NEVER };

struct generation *reload_current(const struct service *s)
{
	struct generation *g = s->generations;

	while (g && (!g->ready || g->leaving))
		g = g->older;
	return g;
}

/* The one that is to become the current one. */
static struct generation *next_of(const struct service *s)
{
	struct generation *g = s->generations;

	while (g && g->leaving)
		g = g->older;
	return g && !g->ready ? g : NULL;
}

bool reload_pending(const struct service *s)
{
	return next_of(s) != NULL;
}

static int load(struct service *s, enum loader_mode mode, struct err *e)
{
	return loader_start(&s->loader, mode, s->pending ? s->pending : s->origin, e);
}

int reload_first(struct service *s, struct err *e)
{
	return load(s, LOADER_START, e);
}

void reload_ask(struct service *s)
{
	log_event(LOG_LEVEL_INFO, &answer, "SIGHUP: reading %s again", s->origin->file);
	notify_reloading();
	s->reload_asked = true;
	/* Whoever waits for the server with the old file need not wait on. */
	if (!s->generations)
		loader_quit(&s->loader);
}

static void refused(struct service *s, const struct err *e)
{
	log_event(LOG_LEVEL_ERROR, &answer, "%s", e->text);
	log_event(LOG_LEVEL_ERROR, &answer, "reload refused: nothing is changed");
	metric_add(s->metrics, METRIC_RELOADS_REFUSED, METRIC_NO_ROUTE, 1);
	if (reload_current(s))
		notify_ready();
}

static void give_up(struct service *s, int ret, const struct err *e)
{
	log_error("%s", e->text);
	s->code = ret == STRAND_EINVAL ? EXIT_USAGE : EXIT_FAULT;
	service_stop(s, STOP_NOW);
}

/* Nothing serves yet. */
static void start_failed(struct service *s, int ret, const struct err *e)
{
	struct err again;

	if (s->loader.mode == LOADER_START) {
		give_up(s, ret, e);
		return;
	}
	refused(s, e);
	ret = load(s, LOADER_START, &again);
	if (ret)
		give_up(s, ret, &again);
}

/* What the process keeps as it was started with. */
static void name_what_needs_a_restart(const struct service *s, const struct conf *conf)
{
	const struct option *o;
	size_t at = 0;

	while ((o = conf_next_change(s->origin, conf, &at))) {
		struct buf was;

		if (o->reloadable)
			continue;
		buf_init(&was);
		if (!value_text(o, s->origin, &was))
			buf_adds(&was, "not set");
		log_event(LOG_LEVEL_WARNING, &answer, "%s: %s needs a restart to change: it stays %s",
			  conf->file, o->path, was.failed ? "as it is" : was.data);
		buf_release(&was);
	}
}

/* Once it is whole: from here on the stats thread may look at it. */
static void link_generation(struct service *s, struct generation *g)
{
	g->number = ++s->last_number;
	s->n_generations++;
	pthread_mutex_lock(&s->lock);
	g->older = s->generations;
	s->generations = g;
	pthread_mutex_unlock(&s->lock);
}

/* Takes both; `owned` is NULL for the configuration that the process started with. */
static void begin(struct service *s, struct conf *owned, struct route_table *routes)
{
	bool first = !s->generations;
	struct generation *g = NULL, *other;
	struct err e;
	const struct generation_frame frame = { .metrics = s->metrics, .cleaner_past = &s->cleaner_past,
						.supervisor = s->supervisor,
						.news = &s->news };
	int ret = generation_new(&g, owned ? owned : s->origin, owned, routes, &frame, &e);

	if (!ret) {
		ret = generation_start(g, &e);
		link_generation(s, g);
	}
	if (!ret) {
		name_what_needs_a_restart(s, g->conf);
		/* One that was not ready yet never will be the current one. */
		for (other = g->older; other; other = other->older)
			if (!other->ready)
				generation_stop(other, STOP_DRAIN);
		return;
	}
	/* NULL: nothing was made of it, and what serves goes on. */
	if (g)
		generation_stop(g, STOP_NOW);
	if (first)
		give_up(s, ret, &e);
	else
		refused(s, &e);
}

static void loaded(struct service *s)
{
	struct conf *conf = NULL;
	struct route_table *routes = NULL;
	struct err e;
	int ret = loader_finish(&s->loader, &conf, &routes, &e);

	if (s->level != STOP_NONE) {
		route_table_free(routes);
		conf_free(conf);
	} else if (!ret) {
		/* What was waited with is the generation's now. */
		struct conf *owned = conf ? conf : s->pending;
		if (conf)
			conf_free(s->pending);
		s->pending = NULL;
		begin(s, owned, routes);
	} else if (ret == STRAND_ESTOPPED && conf) {
		conf_free(s->pending);
		s->pending = conf;
	} else if (ret != STRAND_ESTOPPED) {
		if (s->generations)
			refused(s, &e);
		else
			start_failed(s, ret, &e);
	}
}

static void load_again(struct service *s)
{
	struct err e;

	if (s->n_generations >= RELOAD_MAX) {
		if (!s->put_off_told)
			log_event(LOG_LEVEL_WARNING, &answer, "reload put off: %u generations are at work, until the"
				  " batches of one end", s->n_generations);
		s->put_off_told = true;
		return;
	}
	s->reload_asked = s->put_off_told = false;
	if (load(s, s->generations ? LOADER_RELOAD : LOADER_RESTART, &e))
		refused(s, &e);
}

/* The next one serves from now on, and the older ones need take nothing new. */
static void hand_over(struct service *s, struct generation *g)
{
	const struct conf *conf = g->conf;
	bool reloaded = reload_current(s) != NULL;

	g->ready = true;
	for (struct generation *o = g->older; o; o = o->older)
		generation_stop(o, STOP_DRAIN);
	log_set_level(conf->log_level);
	log_set_instance(g->routes->instance);
	activity_set("serving");
	log_event(LOG_LEVEL_INFO, &answer, "%sserving %zu route%s with %d worker%s", reloaded ? "reloaded: " : "",
		  g->routes->n, plural(g->routes->n), conf->workers_threads, plural((unsigned)conf->workers_threads));
	if (reloaded)
		metric_add(s->metrics, METRIC_RELOADS, METRIC_NO_ROUTE, 1);
	notify_ready();
}

static void take_back(struct service *s, struct generation *g)
{
	char why[256] = "no answer";
	struct err e;

	(void)progress_in_trouble(&g->progress, why, sizeof(why));
	generation_stop(g, STOP_DRAIN);
	err_set(&e, STRAND_ECONN, "the new configuration had no connection within %d s: %s", READY_MS / 1000, why);
	refused(s, &e);
}

static void look_at_next(struct service *s, struct generation *g)
{
	int64_t age = clock_now() - g->started_at;
	const struct generation *current = reload_current(s);

	if (generation_is_ready(g)) {
		if (!current || progress_is_caught_up(&g->progress) || age > CATCH_UP_MS * NSEC_PER_MSEC)
			hand_over(s, g);
	} else if (current && age > READY_MS * NSEC_PER_MSEC) {
		take_back(s, g);
	}
}

static void free_ended(struct service *s)
{
	struct generation **link = &s->generations, *g;

	while ((g = *link)) {
		if (!g->leaving || !generation_has_ended(g)) {
			link = &g->older;
			continue;
		}
		pthread_mutex_lock(&s->lock);
		*link = g->older;
		pthread_mutex_unlock(&s->lock);
		s->n_generations--;
		log_debug("generation %u has finished", g->number);
		generation_free(g);
	}
}

void reload_step(struct service *s)
{
	struct generation *next;

	if (loader_has_ended(&s->loader))
		loaded(s);
	free_ended(s);
	if (s->level != STOP_NONE)
		return;
	next = next_of(s);
	if (next)
		look_at_next(s, next);
	/* One that is about to take over does so first. */
	next = next_of(s);
	if (s->reload_asked && !s->loader.running &&
	    (!next || clock_now() - next->started_at > CATCH_UP_MS * NSEC_PER_MSEC))
		load_again(s);
}
