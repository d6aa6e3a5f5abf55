/* Tags and the channels that their strands are announced on: a channel is the tag with
 * an underscore for its colon.  Pure; any thread.
 */
#ifndef STRANDD_CONF_CHANNEL_H
#define STRANDD_CONF_CHANNEL_H

#include <stdbool.h>

/* The 63 bytes of a PostgreSQL identifier, less ":high" of the high channel. */
#define CHANNEL_MAX_BYTES 58

/* The tag's channel, which the caller frees; NULL: out of memory. */
char *channel_of(const char *tag);
bool channel_is_of(const char *channel, const char *tag);
/* Do the two have one channel, as "a:b_c" and "a_b:c" have? */
bool channel_is_shared(const char *tag, const char *other);

#endif
