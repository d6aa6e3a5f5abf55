/* SipHash-2-4: a keyed hash of short strings.
 *
 * Strand ids are chosen by producers.  With a key that they do not know nobody
 * can choose ids that fall into one bucket.  Pure; any thread.
 */
#ifndef STRANDD_QUEUE_SIPHASH_H
#define STRANDD_QUEUE_SIPHASH_H

#include <stddef.h>
#include <stdint.h>

struct siphash_key {
	uint64_t k0, k1;
};

uint64_t siphash(struct siphash_key key, const void *data, size_t len);

#endif
