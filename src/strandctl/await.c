#include "strandctl/await.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "base/clock.h"
#include "base/event.h"
#include "pg/array.h"
#include "strandctl/progress.h"
#include "strandctl/receipts.h"
#include "strandctl/tags.h"

#define POLL_MS 10
#define POLL_MAX_MS 250
#define ASK_AT_ONCE 1000	/* strands of a route in one question */
#define NAMED_MAX 20		/* unsettled ones told to people */

struct awaited {
	const struct attachment *route;
	char *id;
	bool final;
};

enum { AT_ID, AT_TAG, AT_RECEIVER, AT_STATE, AT_HOP, AT_REPLIES, AT_REPLIES_JSON, AT_ERROR, AT_RECEIPT,
       N_COLUMNS };

static const struct column columns[N_COLUMNS] = {
	[AT_ID] = { "ID", COLUMN_TEXT, FOR_BOTH },
	[AT_TAG] = { "TAG", COLUMN_TEXT, FOR_BOTH },
	[AT_RECEIVER] = { "RECEIVER", COLUMN_TEXT, FOR_BOTH },
	[AT_STATE] = { "STATE", COLUMN_TEXT, FOR_BOTH },
	[AT_HOP] = { "HOP MS", COLUMN_NUMBER, FOR_BOTH },
	[AT_REPLIES] = { "REPLIES", COLUMN_WRAP, FOR_PEOPLE },
	[AT_REPLIES_JSON] = { "REPLIES", COLUMN_JSON, FOR_PROGRAMS },
	[AT_ERROR] = { "ERROR", COLUMN_WRAP, FOR_BOTH },
	[AT_RECEIPT] = { "RECEIPT", COLUMN_JSON, FOR_PROGRAMS },
};

static int add_one(struct await *a, const struct attachment *route, const char *id, struct err *e)
{
	if (a->n == a->size) {
		size_t size = a->size ? 2 * a->size : 64;
		struct awaited *list = realloc(a->list, size * sizeof(*list));

		if (!list)
			return err_set(e, STRAND_ENOMEM, "out of memory");
		a->list = list;
		a->size = size;
	}
	a->list[a->n] = (struct awaited){ .route = route, .id = strdup(id) };
	if (!a->list[a->n].id)
		return err_set(e, STRAND_ENOMEM, "out of memory");
	a->n++;
	return 0;
}

int await_add(struct await *a, const struct row *row, struct err *e)
{
	const struct catalog *c = a->target->catalog;
	struct json_object *tags = row->tags ? json_tokener_parse(row->tags) : NULL;
	int ret = 0;

	for (size_t i = 0; tags && !ret && i < c->n_routes; i++) {
		const struct attachment *route = &c->routes[i];

		if (route->attached && !strcmp(route->source->oid, a->target->relation.oid) &&
		    tags_hold(tags, route->tag))
			ret = add_one(a, route, row->id, e);
	}
	json_object_put(tags);
	return ret;
}

static void show(struct await *a, const struct attachment *route, const PGresult *res, int row)
{
	struct libscols_line *line = table_row(a->table, NULL);
	const char *state = PQgetvalue(res, row, RECEIPT_STATE);

	table_set(a->table, line, AT_ID, PQgetvalue(res, row, RECEIPT_ID));
	table_set(a->table, line, AT_TAG, route->tag);
	table_set(a->table, line, AT_RECEIVER, route->receiver->name);
	table_set(a->table, line, AT_STATE, state);
	table_set(a->table, line, AT_HOP, cell(res, row, RECEIPT_HOP_MS));
	table_set(a->table, line, AT_REPLIES, cell(res, row, RECEIPT_REPLIES));
	table_set(a->table, line, AT_REPLIES_JSON, cell(res, row, RECEIPT_REPLIES_JSON));
	table_set(a->table, line, AT_ERROR, cell(res, row, RECEIPT_ERROR));
	table_set(a->table, line, AT_RECEIPT, cell(res, row, RECEIPT_JSON));
	a->n_failed += !strcmp(state, "failed");
	a->n_expired += !strcmp(state, "expired");
}

static int by_id(const void *x, const void *y)
{
	return strcmp((*(struct awaited *const *)x)->id, (*(struct awaited *const *)y)->id);
}

/* The oldest unsettled strands of the route, sorted by id. */
static size_t choose(struct await *a, const struct attachment *route, struct awaited **asked)
{
	size_t n = 0;

	while (a->first < a->n && a->list[a->first].final)
		a->first++;
	for (size_t i = a->first; i < a->n && n < ASK_AT_ONCE; i++)
		if (a->list[i].route == route && !a->list[i].final)
			asked[n++] = &a->list[i];
	qsort(asked, n, sizeof(*asked), by_id);
	return n;
}

static void take_answer(struct await *a, const struct attachment *route, const PGresult *res, int row,
			struct awaited **asked, size_t n)
{
	struct awaited key = { .id = PQgetvalue(res, row, RECEIPT_ID) }, *keyp = &key, **found;

	if (*PQgetvalue(res, row, RECEIPT_FINAL) != 't')
		return;
	found = bsearch(&keyp, asked, n, sizeof(*asked), by_id);
	if (!found || (*found)->final)
		return;
	(*found)->final = true;
	a->n_settled++;
	show(a, route, res, row);
}

static int ask(struct await *a, const struct attachment *route, struct err *e)
{
	struct awaited *asked[ASK_AT_ONCE];
	size_t n = choose(a, route, asked);
	struct buf ids = BUF_INIT;
	PGresult *res;
	int ret;

	if (!n)
		return 0;
	buf_init(&ids);
	array_begin(&ids);
	for (size_t i = 0; i < n; i++)
		array_item(&ids, asked[i]->id, strlen(asked[i]->id));
	array_end(&ids);
	ret = ids.failed ? err_set(e, STRAND_ENOMEM, "out of memory")
		: receipts_query(a->ctl, route, ids.data, true, &res, e);
	buf_release(&ids);
	if (ret)
		return ret;
	for (int row = 0; row < PQntuples(res); row++)
		take_answer(a, route, res, row, asked, n);
	PQclear(res);
	return 0;
}

static int ask_all(struct await *a, struct err *e)
{
	const struct catalog *c = a->target->catalog;
	int ret = 0;

	for (size_t i = 0; !ret && i < c->n_routes; i++)
		ret = ask(a, &c->routes[i], e);
	return ret;
}

int await_all(struct await *a, int64_t timeout_ms, struct err *e)
{
	int64_t deadline = clock_after_ms(timeout_ms), pause = POLL_MS;
	struct progress bar;
	int ret = 0;

	a->table = table_new("deliveries", a->ctl->json, columns, N_COLUMNS);
	progress_start(&bar, "waiting for receipts", (int64_t)a->n);
	while (!ret && a->n_settled < a->n) {
		size_t before = a->n_settled;

		ret = ask_all(a, e);
		progress_show(&bar, (int64_t)a->n_settled, (int64_t)a->n_settled);
		if (ret || a->n_settled == a->n)
			break;
		if (clock_now() >= deadline)
			ret = err_set(e, STRAND_ETIMEOUT, "no final receipt for %zu of %zu deliveries within "
				      "%" PRId64 " s: is strandd serving this database?", a->n - a->n_settled,
				      a->n, timeout_ms / 1000);
		else if (event_wait(&a->ctl->interrupted, clock_after_ms(pause)) != STRAND_ETIMEOUT)
			ret = err_set(e, STRAND_ESTOPPED, "interrupted");
		pause = a->n_settled > before ? POLL_MS : pause * 2 < POLL_MAX_MS ? pause * 2 : POLL_MAX_MS;
	}
	progress_wipe(&bar);
	return ret;
}

void await_tell_unsettled(struct await *a)
{
	size_t n = 0;

	for (size_t i = 0; i < a->n; i++) {
		const struct awaited *w = &a->list[i];
		struct libscols_line *line;

		if (w->final)
			continue;
		if (n++ < NAMED_MAX)
			ctl_warn("still waiting: %s on %s", w->id, w->route->tag);
		if (!a->ctl->json)
			continue;
		line = table_row(a->table, NULL);
		table_set(a->table, line, AT_ID, w->id);
		table_set(a->table, line, AT_TAG, w->route->tag);
		table_set(a->table, line, AT_RECEIVER, w->route->receiver->name);
	}
	if (n > NAMED_MAX)
		ctl_warn("%zu more are not named here", n - NAMED_MAX);
}

void await_release(struct await *a)
{
	for (size_t i = 0; i < a->n; i++)
		free(a->list[i].id);
	free(a->list);
	table_free(a->table);
}
