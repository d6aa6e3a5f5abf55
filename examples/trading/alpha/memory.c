#include "memory.h"

#include <json.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct memory_entry {
	char plan[64], signal[16], exit_day[11];	/* exit_day: "" while it is open */
	bool decided, approved, reported, won;
};

void memory_release(struct memory *m)
{
	free(m->entries);
	m->entries = NULL;
	m->n = m->size = 0;
}

static struct memory_entry *find(const struct memory *m, const char *plan)
{
	for (size_t i = m->n; i > 0; i--)
		if (!strcmp(m->entries[i - 1].plan, plan))
			return &m->entries[i - 1];
	return NULL;
}

static struct memory_entry *find_or_add(struct memory *m, const char *plan)
{
	struct memory_entry *found = find(m, plan);

	if (found)
		return found;
	if (m->n == m->size) {
		size_t size = m->size ? 2 * m->size : 256;
		struct memory_entry *grown = realloc(m->entries, size * sizeof(*grown));

		if (!grown)
			return NULL;
		m->entries = grown;
		m->size = size;
	}
	found = &m->entries[m->n++];
	memset(found, 0, sizeof(*found));
	snprintf(found->plan, sizeof(found->plan), "%s", plan);
	return found;
}

static struct json_object *parse(const struct strand *s, const char *column)
{
	const char *json = strand_column(s, column);

	return json ? json_tokener_parse(json) : NULL;
}

/* "" where there is none. */
static const char *text(struct json_object *o, const char *key)
{
	struct json_object *member;

	return json_object_object_get_ex(o, key, &member) && member ? json_object_get_string(member) : "";
}

static void take_outcome(struct memory_entry *entry, struct json_object *outcome)
{
	entry->reported = true;
	snprintf(entry->exit_day, sizeof(entry->exit_day), "%s", text(outcome, "exit_day"));
	entry->won = atof(text(outcome, "profit")) > 0;
}

int memory_take(struct memory *m, const struct strand *s)
{
	struct json_object *decision = parse(s, "dm_decision"), *execution = parse(s, "tr_execution");
	struct json_object *about = decision ? decision : execution, *outcome = parse(s, "tr_outcome");
	struct memory_entry *entry;
	int ret = 0;

	if (!about || !*text(about, "plan")) {
		ret = STRAND_EPROTO;
	} else if (!strcmp(text(about, "account"), m->account)) {
		entry = find_or_add(m, text(about, "plan"));
		if (!entry) {
			ret = STRAND_ENOMEM;
		} else if (decision) {
			entry->decided = true;
			entry->approved = !strcmp(text(decision, "approved"), "true");
		} else {
			snprintf(entry->signal, sizeof(entry->signal), "%s", text(execution, "signal"));
			take_outcome(entry, outcome);
		}
	}
	json_object_put(decision);
	json_object_put(execution);
	json_object_put(outcome);
	return ret;
}

bool memory_is_settled(const struct memory *m, const char *plan)
{
	const struct memory_entry *entry = find(m, plan);

	return entry && entry->decided && (!entry->approved || entry->reported);
}

void memory_known(const struct memory *m, const char *signal, const char *day, int *ret_outcomes, int *ret_hits)
{
	*ret_outcomes = *ret_hits = 0;
	for (size_t i = 0; i < m->n; i++) {
		const struct memory_entry *entry = &m->entries[i];

		if (strcmp(entry->signal, signal) || !*entry->exit_day || strcmp(entry->exit_day, day) > 0)
			continue;
		++*ret_outcomes;
		*ret_hits += entry->won;
	}
}
