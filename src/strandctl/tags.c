#include "strandctl/tags.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>

#include "conf/conf.h"

bool tags_hold(const struct json_object *tags, const char *tag)
{
	for (size_t i = 0; i < json_object_array_length(tags); i++)
		if (!strcmp(json_object_get_string(json_object_array_get_idx(tags, i)), tag))
			return true;
	return false;
}

void tags_add(struct json_object *tags, const char *tag)
{
	if (*tag && !tags_hold(tags, tag))
		json_object_array_add(tags, json_object_new_string(tag));
}

void tags_add_list(struct json_object *tags, const char *list)
{
	while (*list) {
		size_t n = strcspn(list, ","), from = strspn(list, " \t"), to = n;
		char *tag;

		while (to > from && isspace((unsigned char)list[to - 1]))
			to--;
		tag = to > from ? strndup(list + from, to - from) : NULL;
		if (tag)
			tags_add(tags, tag);
		free(tag);
		list += n + (list[n] == ',');
	}
}

bool tag_is_route(const char *tag)
{
	size_t module = strcspn(tag, ":"), rest;

	if (!module || tag[module] != ':')
		return false;
	rest = strcspn(tag + module + 1, ":");
	if (!rest || tag[module + 1 + rest])
		return false;
	for (const char *p = tag; *p; p++)
		if (isspace((unsigned char)*p))
			return false;
	return !conf_is_attribute(tag, module);
}
