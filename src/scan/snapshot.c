#include "scan/snapshot.h"

#include <ctype.h>
#include <errno.h>
#include <stdlib.h>

static bool number(const char **p, uint64_t *ret)
{
	char *end;

	if (!isdigit((unsigned char)**p))
		return false;
	errno = 0;
	*ret = strtoull(*p, &end, 10);
	*p = end;
	return errno == 0;
}

static size_t commas(const char *p)
{
	size_t n = 0;

	for (; *p; p++)
		n += *p == ',';
	return n;
}

static bool list(struct snapshot *s, const char *p)
{
	while (*p) {
		uint64_t xid;
		if (!number(&p, &xid) || (s->n && xid <= s->xip[s->n - 1]) || xid < s->xmin || xid >= s->xmax)
			return false;
		s->xip[s->n++] = xid;
		if (*p == ',' && p[1])
			p++;
		else if (*p)
			return false;
	}
	return true;
}

int snapshot_parse(struct snapshot *ret, const char *text)
{
	struct snapshot s = { 0 };
	const char *p = text;

	if (!number(&p, &s.xmin) || *p++ != ':' || !number(&p, &s.xmax) || *p++ != ':' || s.xmin > s.xmax)
		return STRAND_EINVAL;
	s.xip = calloc(commas(p) + 1, sizeof(*s.xip));
	if (!s.xip)
		return STRAND_ENOMEM;
	if (!list(&s, p)) {
		snapshot_release(&s);
		return STRAND_EINVAL;
	}
	*ret = s;
	return 0;
}

void snapshot_release(struct snapshot *s)
{
	free(s->xip);
	*s = (struct snapshot){ 0 };
}

bool snapshot_in_progress(const struct snapshot *s, uint64_t xid)
{
	size_t low = 0, high = s->n;

	while (low < high) {
		size_t middle = low + (high - low) / 2;
		if (s->xip[middle] < xid)
			low = middle + 1;
		else
			high = middle;
	}
	return low < s->n && s->xip[low] == xid;
}
