#include "base/utf8.h"

/* Bytes of the letter that starts with `lead`, 0 when none does, and the bounds
 * of its second byte: they keep out surrogates and needlessly long forms. */
static size_t letter(unsigned char lead, unsigned char *low, unsigned char *high)
{
	*low = 0x80;
	*high = 0xbf;
	if (lead < 0x80)
		return 1;
	if (lead < 0xc2 || lead > 0xf4)
		return 0;
	if (lead == 0xe0)
		*low = 0xa0;
	else if (lead == 0xed)
		*high = 0x9f;
	else if (lead == 0xf0)
		*low = 0x90;
	else if (lead == 0xf4)
		*high = 0x8f;
	return lead < 0xe0 ? 2 : lead < 0xf0 ? 3 : 4;
}

void utf8_mend(char *text)
{
	unsigned char *p = (unsigned char *)text, low, high;

	while (*p) {
		size_t len = letter(*p, &low, &high), i = 1;

		while (i < len && p[i] >= low && p[i] <= high) {
			i++;
			low = 0x80;
			high = 0xbf;
		}
		if (len && i < len && !p[i]) {
			*p = '\0';
		} else if (i < len || !len) {
			*p++ = '?';
		} else {
			p += len;
		}
	}
}

bool utf8_valid(const char *text, size_t len)
{
	const unsigned char *p = (const unsigned char *)text, *end = p + len;
	unsigned char low, high;

	while (p < end) {
		size_t n = *p ? letter(*p, &low, &high) : 0, i = 1;

		if (!n || n > (size_t)(end - p))
			return false;
		for (; i < n && p[i] >= low && p[i] <= high; i++) {
			low = 0x80;
			high = 0xbf;
		}
		if (i < n)
			return false;
		p += n;
	}
	return true;
}
