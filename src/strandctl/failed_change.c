#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/event.h"
#include "strand/sqlstate.h"
#include "strandctl/ask.h"
#include "strandctl/failed_change.h"
#include "strandctl/strands.h"

#define PAGE 200		/* receipts in one transaction */
#define SAMPLE 10		/* that --dry-run shows */
/* Our requests give up before the server looks for a deadlock, so that it never
 * ends a producer's transaction for our sake. */
#define LOCK_TIMEOUT "SET lock_timeout = 500"
#define HELD_TRIES 4
#define HELD_PAUSE_MS 150

const struct failed_verb failed_retry = {
	"retry", "strandd.retry", "retry", "retried", "would_retry", "deliver again",
};
const struct failed_verb failed_discard = {
	"discard", "strandd.discard", "withdrawn", "discarded", "would_discard", "give up",
};

/* Ids of a page, a state for each once it was tried. */
struct page {
	const char *ids[PAGE];
	size_t n;
};

static void note(struct change *c, struct tally *t, const PGresult *res, int row, struct page *held)
{
	const char *outcome = cell(res, row, 1);

	if (outcome && !strcmp(outcome, c->verb->outcome)) {
		t->changed++;
		t->again_expired += !strcmp(PQgetvalue(res, row, 2), "expired");
	} else if (outcome && !strcmp(outcome, "gone")) {
		t->gone++;
	} else if (!outcome || !strcmp(outcome, "locked")) {
		held->n++;
	}
	/* Else somebody else has settled it meanwhile. */
}

/* Keeps in *p those that are held: the answer is in the order of the question, but
 * that is nobody's promise. */
static void keep_held(struct page *p, const PGresult *res)
{
	size_t n = 0;

	for (size_t i = 0; i < p->n; i++)
		for (int row = 0; row < PQntuples(res); row++) {
			const char *outcome = cell(res, row, 1);

			if (strcmp(PQgetvalue(res, row, 0), p->ids[i]) != 0)
				continue;
			if (!outcome || !strcmp(outcome, "locked"))
				p->ids[n++] = p->ids[i];
			break;
		}
	p->n = n;
}

/* One transaction; leaves in *p what somebody else has in hand. */
static int change_once(struct change *c, const struct attachment *a, struct tally *t, struct page *p, struct err *e)
{
	struct page held = { .n = 0 };
	struct buf ids = BUF_INIT;
	char sql[160];
	const char *values[] = { a->receiver->oid, a->number, NULL };
	PGresult *res;
	int ret;

	snprintf(sql, sizeof(sql), "SELECT c.id, c.outcome, c.former FROM %s($1::oid::regclass, $2::integer, $3::text[]) c",
		 c->verb->function);
	buf_init(&ids);
	strands_ids_array(&ids, p->ids, p->n);
	values[2] = ids.data;
	ret = ids.failed ? err_set(e, STRAND_ENOMEM, "out of memory") : ctl_query(c->f->ctl, sql, 3, values, &res, e);
	buf_release(&ids);
	if (ret)
		return ret;
	for (int row = 0; row < PQntuples(res); row++)
		note(c, t, res, row, &held);
	if (held.n)
		keep_held(p, res);
	else
		p->n = 0;
	PQclear(res);
	return 0;
}

static bool is_contention(int ret, const struct err *e)
{
	return ret == STRAND_ESQL && (!strcmp(e->sqlstate, "55P03") || !strcmp(e->sqlstate, "40P01") ||
				      !strcmp(e->sqlstate, "40001"));
}

/* A page that met a lock, which a table's own trigger may ask for, is done strand by
 * strand. */
static int change_page(struct change *c, const struct attachment *a, struct tally *t, struct page *p, struct err *e)
{
	struct page left = { .n = 0 };
	int ret = change_once(c, a, t, p, e);

	if (!is_contention(ret, e))
		return ret;
	for (size_t i = 0; i < p->n; i++) {
		struct page one = { .ids = { p->ids[i] }, .n = 1 };

		ret = change_once(c, a, t, &one, e);
		if (ret && !is_contention(ret, e))
			return ret;
		if (one.n)
			left.ids[left.n++] = p->ids[i];
	}
	*p = left;
	return 0;
}

static int change_patiently(struct change *c, const struct attachment *a, struct tally *t, struct page *p, struct err *e)
{
	int ret = 0;

	for (int try = 0; !ret && p->n && try < HELD_TRIES; try++) {
		if (try && event_wait(&c->f->ctl->interrupted, clock_after_ms(HELD_PAUSE_MS)) != STRAND_ETIMEOUT)
			return err_set(e, STRAND_ESTOPPED, "interrupted");
		ret = change_page(c, a, t, p, e);
	}
	if (!ret)
		t->held += (int64_t)p->n;
	return ret;
}

/* The next page of a route; 0 rows at its end. */
static int read_page(struct change *c, const struct attachment *a, int64_t rows, struct failed_position *position,
		     PGresult **ret_page, struct err *e)
{
	struct buf sql = BUF_INIT;
	int ret, last;

	buf_init(&sql);
	buf_adds(&sql, "SELECT coalesce(r.long_id, r.strand_id), r.finished_at, r.strand_id");
	failed_from(&sql, c->f, a);
	buf_addf(&sql, FAILED_ORDER " LIMIT %" PRId64, rows < PAGE ? rows : PAGE);
	ret = sql.failed ? err_set(e, STRAND_ENOMEM, "out of memory")
		: failed_query(c->f, sql.data, position, ret_page, e);
	buf_release(&sql);
	if (ret || !PQntuples(*ret_page))
		return ret;
	last = PQntuples(*ret_page) - 1;
	free(position->key);
	position->key = strdup(PQgetvalue(*ret_page, last, 2));
	snprintf(position->finished, sizeof(position->finished), "%s", PQgetvalue(*ret_page, last, 1));
	if (position->key)
		return 0;
	PQclear(*ret_page);
	return err_set(e, STRAND_ENOMEM, "out of memory");
}

static int change_route(struct change *c, const struct attachment *a, struct tally *t, struct err *e)
{
	struct failed_position position = { .key = NULL };
	int64_t left = t->selected;
	int ret = 0, n = 1;

	while (!ret && left > 0 && n) {
		struct page p = { .n = 0 };
		PGresult *res;

		if (ctl_interrupted(c->f->ctl)) {
			ret = err_set(e, STRAND_ESTOPPED, "interrupted");
			break;
		}
		ret = read_page(c, a, left, &position, &res, e);
		if (ret)
			break;
		n = PQntuples(res);
		for (int row = 0; row < n; row++)
			p.ids[p.n++] = PQgetvalue(res, row, 0);
		ret = change_patiently(c, a, t, &p, e);
		PQclear(res);
		left -= n;
		c->seen += n;
		progress_show(&c->bar, c->seen, c->seen);
	}
	free(position.key);
	return ret;
}

/* Who names strands knows what he does. */
static int confirm(const struct change *c, struct err *e)
{
	const struct failed_args *args = c->f->args;
	char question[160];

	if (c->verb == &failed_retry && c->sum.unknown && !args->force)
		return err_set(e, STRAND_EINVAL, "of %" PRId64 " of them nobody knows what their handler did: it may"
			       " have done its work, and would do it twice (strandctl failed list --sqlstate "
			       SQLSTATE_UNKNOWN " lists them); look there first, then say --force, or discard them",
			       c->sum.unknown);
	if (args->yes || args->ids.n || !c->sum.selected)
		return 0;
	if (!isatty(STDIN_FILENO))
		return err_set(e, STRAND_EINVAL, "failed %s would %s %" PRId64 " strands: say --yes, or --dry-run to see"
			       " which", c->verb->name, c->verb->ask, c->sum.selected);
	snprintf(question, sizeof(question), "%c%s %" PRId64 " strands (%" PRId64 " of them expired)?",
		 c->verb->ask[0] - 'a' + 'A', c->verb->ask + 1, c->sum.selected, c->sum.expired);
	return ask_yes(c->f->ctl, question, e);
}

static int change_all(struct change *c, struct err *e)
{
	int ret = ctl_exec(c->f->ctl, LOCK_TIMEOUT, e);

	progress_start(&c->bar, c->verb->done, c->sum.selected);
	for (size_t i = 0; !ret && i < c->f->n_routes; i++)
		ret = change_route(c, c->f->routes[i], &c->tallies[i], e);
	progress_wipe(&c->bar);
	return ret;
}

static int run(struct change *c, int *ret_code, struct err *e)
{
	size_t missed;
	int ret = failed_check_ids(c->f, &missed, e);

	if (!ret)
		ret = failed_count(c, e);
	if (ret)
		return ret;
	if (c->f->args->dry_run) {
		failed_tell(c);
		ret = c->f->ctl->json || !c->sum.selected ? 0 : failed_list(c->f, SAMPLE, e);
	} else {
		ret = confirm(c, e);
		if (ret)
			return ret;
		ret = change_all(c, e);
		/* An error that nothing came before says all there is to say. */
		if (!ret || ret == STRAND_ESTOPPED || failed_changed_some(c))
			failed_tell(c);
	}
	*ret_code = missed || failed_left_some(c) ? EXIT_FAULT : EXIT_OK;
	return ret;
}

int failed_change(struct failed *f, const struct failed_verb *verb, int *ret_code, struct err *e)
{
	struct change c = { .f = f, .verb = verb, .tallies = calloc(f->n_routes + 1, sizeof(*c.tallies)) };
	int ret = c.tallies ? run(&c, ret_code, e) : err_set(e, STRAND_ENOMEM, "out of memory");

	free(c.tallies);
	return ret;
}
