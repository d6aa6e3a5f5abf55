#include "conf/channel.h"

#include <string.h>

static char mapped(char c)
{
	return c == ':' ? '_' : c;
}

char *channel_of(const char *tag)
{
	char *channel = strdup(tag);

	for (char *p = channel; p && *p; p++)
		*p = mapped(*p);
	return channel;
}

bool channel_is_of(const char *channel, const char *tag)
{
	while (*tag && *channel == mapped(*tag)) {
		channel++;
		tag++;
	}
	return !*tag && !*channel;
}

bool channel_is_shared(const char *tag, const char *other)
{
	while (*tag && mapped(*tag) == mapped(*other)) {
		tag++;
		other++;
	}
	return !*tag && !*other;
}
