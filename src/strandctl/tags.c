#include "strandctl/tags.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "conf/conf.h"

#define SECONDS_DIGITS_MAX 15	/* on either side of the point */

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
		size_t n = strcspn(list, ","), from = 0, to = n;
		char *tag;

		while (from < to && isspace((unsigned char)list[from]))
			from++;
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

/* "300", "2.5": what strandd.timeouts() takes for a number of seconds. */
static bool is_seconds(const char *text)
{
	size_t whole = strspn(text, "0123456789"), part;

	if (!whole || whole > SECONDS_DIGITS_MAX || !text[whole])
		return whole && whole <= SECONDS_DIGITS_MAX;
	part = text[whole] == '.' ? strspn(text + whole + 1, "0123456789") : 0;
	return part && part <= SECONDS_DIGITS_MAX && !text[whole + 1 + part];
}

const char *tag_fault(const char *tag)
{
	static const char timeout[] = "timeout:", priority[] = "priority:";

	if (!strncasecmp(tag, timeout, sizeof(timeout) - 1) &&
	    (strncmp(tag, timeout, sizeof(timeout) - 1) != 0 || !is_seconds(tag + sizeof(timeout) - 1)))
		return "write timeout:<seconds>, as in timeout:300 or timeout:2.5";
	if (!strncasecmp(tag, priority, sizeof(priority) - 1) && strcmp(tag, "priority:high") != 0)
		return "the one priority is priority:high";
	return NULL;
}
