#include "pg/hosts.h"

#include <stdlib.h>
#include <string.h>

/* Number of elements; 0 when one of them is empty, which stands for a default. */
static unsigned count(const char *list)
{
	unsigned n = 1;

	if (!list)
		return 1;
	if (*list == ',' || strstr(list, ",,"))
		return 0;
	for (const char *p = list; *p; p++) {
		n += *p == ',';
		if (*p == ',' && !p[1])
			return 0;
	}
	return n;
}

static const char *option(const PQconninfoOption *options, const char *keyword)
{
	for (; options->keyword; options++)
		if (!strcmp(options->keyword, keyword))
			return options->val && *options->val ? options->val : NULL;
	return NULL;
}

static char *copy(const char *text)
{
	return text ? strdup(text) : NULL;
}

/* 1 also where the lists do not fit each other, which is libpq's to say. */
static unsigned several(const struct hosts *h)
{
	unsigned n = count(h->host ? h->host : h->hostaddr), ports = count(h->port);

	if (h->host && h->hostaddr && count(h->hostaddr) != n)
		return 1;
	return n > 1 && (ports == 1 || ports == n) ? n : 1;
}

int hosts_read(struct hosts *h, PGconn *pg, struct err *e)
{
	PQconninfoOption *options = PQconninfo(pg);

	if (!options)
		return err_set(e, STRAND_ENOMEM, "out of memory");
	hosts_release(h);
	h->host = copy(option(options, "host"));
	h->hostaddr = copy(option(options, "hostaddr"));
	h->port = copy(option(options, "port"));
	h->n = several(h);
	PQconninfoFree(options);
	return 0;
}

void hosts_release(struct hosts *h)
{
	free(h->host);
	free(h->hostaddr);
	free(h->port);
	*h = (struct hosts){ 0 };
}

const char *hosts_element(const char *list, unsigned i, char *out, size_t size)
{
	size_t len;

	if (!list)
		return NULL;
	for (unsigned left = count(list) > 1 ? i : 0; left; left--)
		list += strcspn(list, ",") + 1;
	len = strcspn(list, ",");
	if (len >= size)
		len = size - 1;
	memcpy(out, list, len);
	out[len] = '\0';
	return out;
}
