/* SPDX-License-Identifier: BSD-2-Clause */
/* Where the bytes of records' columns are, and their hashes. */
#ifndef EUNOMIA_COLUMNS_H
#define EUNOMIA_COLUMNS_H

#include "native.h"

#include <string.h>
#include <sys/auxv.h>

static inline uint64_t mixed(uint64_t a, uint64_t b)
{
	__uint128_t product = (__uint128_t)(a ^ 0x9E3779B97F4A7C15ULL) * (b ^ 0xD6E8FEB86659FD93ULL);

	return (uint64_t)product ^ (uint64_t)(product >> 64);
}

/* Values are untrusted, and could be chosen to have the same hash. */
static inline uint64_t hash_seed(void)
{
	const void *random = (const void *)getauxval(AT_RANDOM);
	uint64_t seed = 0;

	if (random)
		memcpy(&seed, random, sizeof(seed));
	return seed;
}

struct coder {
	const char *data, *heap;
	size_t stride, heap_size;
	uint32_t heap_at;
	const struct eu_span *spans;
	size_t span_count;
	uint64_t seed;
	int word;		/* bytes of the one number that is the value, 0 for anything else */
};

/* Where the bytes of a record's span are; a place in the heap never leads outside of it. */
static inline const char *span_bytes(const struct coder *coder, const struct eu_span *span, const char *record,
				     size_t *size)
{
	const char *bytes = record + span->offset;
	uint32_t place[2];

	*size = span->size;
	if (span->kind == EU_TEXT)
		*size = strnlen(bytes, span->size);
	if (span->kind != EU_HEAP)
		return bytes;
	memcpy(place, bytes, sizeof(place));
	place[0] -= coder->heap_at;
	if (place[0] > coder->heap_size)
		place[0] = coder->heap_size;
	*size = place[1] < coder->heap_size - place[0] ? place[1] : coder->heap_size - place[0];
	return coder->heap + place[0];
}

#endif
