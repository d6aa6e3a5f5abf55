#include "strandctl/forest.h"

#include <json-c/json.h>
#include <search.h>
#include <stdlib.h>
#include <string.h>

#include "strandctl/strands.h"

static const char origin_prefix[] = "original_strand:";

static int compare(const void *a, const void *b)
{
	const struct node *x = a, *y = b;

	if (x->table != y->table)
		return x->table < y->table ? -1 : 1;
	return strcmp(x->id, y->id);
}

static void node_free(struct node *n)
{
	for (size_t i = 0; i < n->n_origins; i++)
		free(n->origins[i]);
	free(n->origins);
	free(n->children);
	free(n->id);
	free(n->kind);
	buf_release(&n->tags);
	free(n->tags_json);
	free(n->created);
	free(n->tagged);
	buf_release(&n->receipts);
	buf_release(&n->receipts_json);
	free(n);
}

/* One more place in a growing array of pointers, doubled at powers of two. */
static bool make_room(void *array_of_pointers, size_t n)
{
	void **array = array_of_pointers, *grown;

	if (n & (n - 1))
		return true;
	grown = realloc(*array, (n ? 2 * n : 1) * sizeof(void *));
	if (grown)
		*array = grown;
	return grown;
}

static struct node *add(struct forest *f, const struct node *key)
{
	struct node *n = calloc(1, sizeof(*n));

	if (!n)
		return NULL;
	n->table = key->table;
	n->id = strdup(key->id);
	buf_init(&n->tags);
	buf_init(&n->receipts);
	buf_init(&n->receipts_json);
	if (!n->id || !make_room(&f->nodes, f->n) || !tsearch(n, &f->index, compare)) {
		node_free(n);
		return NULL;
	}
	f->nodes[f->n++] = n;
	return n;
}

struct node *forest_find(struct forest *f, const struct module_table *table, const char *id)
{
	struct node key = { .table = table, .id = (char *)id };
	void *found = tfind(&key, &f->index, compare);

	return found ? *(struct node **)found : NULL;
}

struct node *forest_node(struct forest *f, const struct module_table *table, const char *id, bool *ret_new)
{
	struct node key = { .table = table, .id = (char *)id };
	struct node *found = forest_find(f, table, id);

	*ret_new = !found;
	return found ? found : add(f, &key);
}

static char *copy(const char *text)
{
	return text ? strdup(text) : NULL;
}

static int add_tag(struct node *n, const char *tag)
{
	size_t skip = sizeof(origin_prefix) - 1;

	if (strncmp(tag, origin_prefix, skip)) {
		buf_addf(&n->tags, "%s%s", n->tags.len ? "\n" : "", tag);
		return n->tags.failed ? STRAND_ENOMEM : 0;
	}
	if (!make_room(&n->origins, n->n_origins))
		return STRAND_ENOMEM;
	n->origins[n->n_origins] = strdup(tag + skip);
	if (!n->origins[n->n_origins])
		return STRAND_ENOMEM;
	n->n_origins++;
	return 0;
}

static int add_tags(struct node *n)
{
	struct json_object *tags = n->tags_json ? json_tokener_parse(n->tags_json) : NULL;
	int ret = 0;

	if (json_object_is_type(tags, json_type_array)) {
		for (size_t i = 0; !ret && i < json_object_array_length(tags); i++) {
			const char *tag = json_object_get_string(json_object_array_get_idx(tags, i));

			ret = add_tag(n, tag ? tag : "null");
		}
	}
	json_object_put(tags);
	return ret;
}

int node_fill(struct node *n, const PGresult *res, int row)
{
	const char *us = cell(res, row, STRAND_TAGGED_US);

	n->kind = copy(cell(res, row, STRAND_KIND));
	n->tags_json = copy(cell(res, row, STRAND_TAGS_JSON));
	n->created = copy(cell(res, row, STRAND_CREATED));
	n->tagged = copy(cell(res, row, STRAND_TAGGED));
	n->tagged_us = us ? strtoll(us, NULL, 10) : NODE_NO_TIME;
	return add_tags(n);
}

int node_link(struct node *parent, struct node *child)
{
	for (size_t i = 0; i < parent->n_children; i++)
		if (parent->children[i] == child)
			return 0;
	if (!make_room(&parent->children, parent->n_children))
		return STRAND_ENOMEM;
	parent->children[parent->n_children++] = child;
	child->has_parent = true;
	return 0;
}

static int by_age(const void *a, const void *b)
{
	const struct node *x = *(struct node *const *)a, *y = *(struct node *const *)b;
	const char *s = x->created ? x->created : x->tagged, *t = y->created ? y->created : y->tagged;
	int order = strands_compare_times(s ? s : "", t ? t : "");

	return order ? order : strcmp(x->id, y->id);
}

void forest_sort(struct forest *f)
{
	for (size_t i = 0; i < f->n; i++)
		if (f->nodes[i]->n_children)
			qsort(f->nodes[i]->children, f->nodes[i]->n_children,
			      sizeof(*f->nodes[i]->children), by_age);
}

static void free_nothing(void *node)
{
	(void)node;
}

void forest_release(struct forest *f)
{
	tdestroy(f->index, free_nothing);
	for (size_t i = 0; i < f->n; i++)
		node_free(f->nodes[i]);
	free(f->nodes);
}
