/* A listener's connection: its tables, its channels, and the strands that were announced. */
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "base/clock.h"
#include "libstrand/listener.h"
#include "pg/array.h"

int session_sent(struct strand_listener *l, enum listen_phase phase, int ret)
{
	l->phase = phase;
	l->until = clock_after_ms(ANSWER_MS);
	return ret ? ret : LINK_AGAIN;
}

/* A role that may not read is told so before it waits for strands. */
static int send_listen(struct strand_listener *l)
{
	struct buf sql = BUF_INIT;
	int ret;

	for (size_t i = 0; i < l->n_sources; i++)
		buf_addf(&sql, "SELECT s.id, s.tags FROM %s s LIMIT 0;", l->sources[i].table.sql);
	for (size_t i = 0; i < 2 * l->n_routes; i++) {
		const struct listen_route *r = &l->routes[i / 2];
		const char *channel = i % 2 ? r->high_channel : r->channel;
		char *quoted = PQescapeIdentifier(l->link.pg, channel, strlen(channel));

		sql.failed |= !quoted;
		buf_addf(&sql, "LISTEN %s;", quoted ? quoted : "");
		PQfreemem(quoted);
	}
	ret = sql.failed ? err_set(&l->err, STRAND_ENOMEM, "out of memory")
		: link_send_script(&l->link, sql.data, &l->err);
	buf_release(&sql);
	return session_sent(l, PHASE_LISTENING, ret);
}

int session_send_table(struct strand_listener *l)
{
	const char *values[] = { l->at < l->n_sources ? l->sources[l->at].name : NULL };

	if (!values[0])
		return send_listen(l);
	return session_sent(l, PHASE_TABLES, link_send(&l->link, table_sql, 1, values, &l->err));
}

int session_take_table(struct strand_listener *l)
{
	struct listen_source *source = &l->sources[l->at];
	PGresult *res;
	int ret = link_take(&l->link, &res, &l->err);

	if (ret)
		return ret;
	table_release(&source->table);
	ret = table_read(&source->table, source->name, res, &l->err);
	PQclear(res);
	l->at++;
	return ret ? ret : session_send_table(l);
}

int session_take_listen(struct strand_listener *l)
{
	int ret = link_take(&l->link, NULL, &l->err);

	if (ret)
		return ret;
	l->phase = PHASE_IDLE;
	l->failures = 0;
	l->trouble = (struct err){ 0 };
	/* What was committed before the LISTEN was not announced to us. */
	return catchup_begin(l);
}

int session_offer(struct strand_listener *l, unsigned route, const char *id, bool urgent)
{
	int ret = window_add(&l->window, route, id);

	if (ret == 1 && pending_add(&l->pending, route, id, urgent)) {
		window_forget(&l->window, route, id);
		ret = STRAND_ENOMEM;
	}
	return ret;
}

static void announced(struct strand_listener *l, const char *channel, const char *id)
{
	for (size_t i = 0; i < l->n_routes; i++) {
		bool urgent = !strcmp(channel, l->routes[i].high_channel);

		if (!urgent && strcmp(channel, l->routes[i].channel) != 0)
			continue;
		if (l->pending.n >= PENDING_MAX || l->pending.bytes >= PENDING_BYTES ||
		    session_offer(l, (unsigned)i, id, urgent) < 0)
			l->missed = true;
	}
}

void session_take_notes(struct strand_listener *l)
{
	PGnotify *note;

	while (l->link.pg && (note = PQnotifies(l->link.pg))) {
		announced(l, note->relname, note->extra);
		PQfreemem(note);
	}
}

/* Entries of one table, as many as there are in a row. */
static void fill(struct strand_listener *l, struct chunk *c)
{
	bool urgent = c == &l->chunks[1];
	const struct pending_line *line = &l->pending.lines[urgent];

	while (c->n < CHUNK && line->first &&
	       (!c->n || l->routes[line->first->route].source == l->routes[c->entries[0]->route].source))
		c->entries[c->n++] = pending_take(&l->pending, urgent);
}

/* One row for each entry, in their order; null for what is not there.  By a scalar
 * subquery: the planner knows no other way than the key. */
int session_load(struct strand_listener *l, struct chunk *c)
{
	struct buf sql = BUF_INIT, ids = BUF_INIT;
	int ret;

	if (!c->n)
		fill(l, c);
	array_begin(&ids);
	for (size_t i = 0; i < c->n; i++)
		array_item(&ids, c->entries[i]->id, strlen(c->entries[i]->id));
	array_end(&ids);
	buf_addf(&sql, "SELECT (SELECT pg_catalog.to_jsonb(s) FROM %s s WHERE s.id = u.id)"
		 " FROM pg_catalog.unnest($1::text[]) WITH ORDINALITY u (id, n) ORDER BY u.n",
		 l->sources[l->routes[c->entries[0]->route].source].table.sql);
	if (sql.failed || ids.failed) {
		ret = err_set(&l->err, STRAND_ENOMEM, "out of memory");
	} else {
		const char *values[] = { ids.data };

		ret = link_send(&l->link, sql.data, 1, values, &l->err);
	}
	buf_release(&sql);
	buf_release(&ids);
	l->loading = c;
	return session_sent(l, PHASE_LOADING, ret);
}

int session_take_rows(struct strand_listener *l)
{
	int ret = link_take(&l->link, &l->loading->rows, &l->err);

	if (!ret)
		l->phase = PHASE_IDLE;
	return ret;
}

void chunk_release(struct chunk *c)
{
	for (size_t i = 0; i < c->n; i++)
		free(c->entries[i]);
	PQclear(c->rows);
	*c = (struct chunk){ 0 };
}

/* A notification carries no authority: who has sent it may have meant another table, or
 * a strand that is still to be committed, which will be announced again. */
static int take_strand(struct strand_listener *l, const struct chunk *c, size_t i)
{
	const struct listen_route *r = &l->routes[c->entries[i]->route];
	struct strand *s = &l->current;
	int row = (int)i, ret = 0;

	s->tag = r->tag;
	s->source = l->sources[r->source].name;
	s->deadline = INT64_MAX;
	if (!PQgetisnull(c->rows, row, 0))
		ret = view_row(s, PQgetvalue(c->rows, row, 0), (size_t)PQgetlength(c->rows, row, 0));
	else
		view_forget(s);
	if (ret == STRAND_ENOMEM)
		return err_set(&l->err, ret, "out of memory");
	if (ret)
		return err_set(&l->err, ret, "strand %s of %s is nested too deep to be read", c->entries[i]->id, s->source);
	if (strand_has_tag(s, r->tag))
		return 1;
	window_forget(&l->window, c->entries[i]->route, c->entries[i]->id);
	return 0;
}

int session_hand_out(struct strand_listener *l, struct chunk *c)
{
	if (!c->rows)
		return 0;
	while (c->next < c->n) {
		int ret = take_strand(l, c, c->next);

		c->next += ret != STRAND_ENOMEM;
		if (ret)
			return ret;
	}
	chunk_release(c);
	return 0;
}
