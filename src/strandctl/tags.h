/* Tags as users write them, and what kind a tag is.  Pure. */
#ifndef STRANDD_STRANDCTL_TAGS_H
#define STRANDD_STRANDCTL_TAGS_H

#include <stdbool.h>

#include <json-c/json.h>

#define TAGS_JSON_FLAGS (JSON_C_TO_STRING_PLAIN | JSON_C_TO_STRING_NOSLASHESCAPE)

/* Is this tag in a JSON array of strings? */
bool tags_hold(const struct json_object *tags, const char *tag);

/* Appends a tag to a JSON array of strings unless it is there. */
void tags_add(struct json_object *tags, const char *tag);

/* "a:b, priority:high": parted by commas, blanks around them dropped. */
void tags_add_list(struct json_object *tags, const char *list);

/* Has it the form <module>:<action>, and is it no attribute (priority, timeout,
 * original_strand, error)? */
bool tag_is_route(const char *tag);

/* Why strandd would not heed this attribute, NULL when it would or when it is none:
 * a timeout that is no number of seconds, a priority other than high.  Static text. */
const char *tag_fault(const char *tag);

#endif
