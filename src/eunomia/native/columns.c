// SPDX-License-Identifier: BSD-2-Clause
/* Work on whole columns of records: distinct values and masks. Runs without the GIL. */
#define _GNU_SOURCE
#include "columns.h"

#include <stdlib.h>
#include <string.h>

/* Distinct values */

struct slot {
	uint32_t hash;
	uint32_t code;		/* of the value + 1, 0 for an empty slot */
};

static uint64_t hash_bytes(const char *bytes, size_t size, uint64_t hash)
{
	uint64_t word;

	hash = mixed(hash, size);
	for (; size >= sizeof(word); size -= sizeof(word), bytes += sizeof(word)) {
		memcpy(&word, bytes, sizeof(word));
		hash = mixed(hash, word);
	}
	word = 0;
	memcpy(&word, bytes, size);
	return mixed(hash, word);
}

static uint64_t record_word(const struct coder *coder, const char *record)
{
	uint64_t word = 0;

	memcpy(&word, record + coder->spans->offset, coder->word);
	return word;
}

static uint64_t record_hash(const struct coder *coder, const char *record)
{
	uint64_t hash = coder->seed;

	if (coder->word)
		return mixed(hash, record_word(coder, record));
	for (size_t i = 0; i < coder->span_count; i++) {
		size_t size;
		const char *bytes = span_bytes(coder, coder->spans + i, record, &size);

		hash = hash_bytes(bytes, size, hash);
	}
	return hash;
}

static int same_value(const struct coder *coder, const char *one, const char *other)
{
	if (coder->word)
		return record_word(coder, one) == record_word(coder, other);
	for (size_t i = 0; i < coder->span_count; i++) {
		size_t size, other_size;
		const char *bytes = span_bytes(coder, coder->spans + i, one, &size);
		const char *others = span_bytes(coder, coder->spans + i, other, &other_size);

		if (size != other_size || memcmp(bytes, others, size))
			return 0;
	}
	return 1;
}

static struct slot *grown(struct slot *slots, size_t count, const struct slot *first)
{
	struct slot *larger = calloc(count * 4, sizeof(*larger));

	for (size_t i = 0; larger && i < count; i++) {
		size_t at = slots[i].hash & (count * 4 - 1);

		if (!slots[i].code)
			continue;
		while (larger[at].code)
			at = (at + 1) & (count * 4 - 1);
		larger[at] = slots[i];
	}
	if (slots != first)
		free(slots);
	return larger;
}

/*
 * Finds the distinct values of what `spans` say of each record: writes the first row that has each of them to
 * `first`, in the order of these rows, and to `index` which of them each record has. Returns how many there
 * are, 0 where they are more than `most`, which `first` has room for; negative for want of memory.
 */
long eu_code(const char *data, size_t stride, size_t count, const char *heap, size_t heap_size, uint32_t heap_at,
	     const struct eu_span *spans, size_t span_count, size_t most, uint32_t *first, uint32_t *index)
{
	enum { SLOTS = 1024 };
	struct slot few[SLOTS] = {}, *slots = few;
	struct coder coder = { data, heap, stride, heap_size, heap_at, spans, span_count, 0, 0 };
	size_t room = SLOTS, found = 0, at = 0;

	coder.seed = hash_seed();
	if (span_count == 1 && spans->kind == EU_BYTES && spans->size <= sizeof(uint64_t))
		coder.word = spans->size;
	for (size_t i = 0; i < count; i++) {
		const char *record = data + i * stride;
		uint64_t hash;

		if (found && same_value(&coder, record, data + first[at] * stride)) {
			index[i] = at;
			continue;
		}
		hash = record_hash(&coder, record);
		hash ^= hash >> 32;
		for (at = hash & (room - 1); slots[at].code; at = (at + 1) & (room - 1))
			if (slots[at].hash == (uint32_t)hash &&
			    same_value(&coder, record, data + first[slots[at].code - 1] * stride))
				break;
		if (!slots[at].code) {
			if (found == most) {
				found = 0;
				break;
			}
			first[found] = i;
			slots[at] = (struct slot){ hash, ++found };
			if (found * 2 > room) {
				slots = grown(slots, room, few);
				if (!slots)
					return -1;
				room *= 4;
				at = found - 1;
				index[i] = at;
				continue;
			}
		}
		at = slots[at].code - 1;
		index[i] = at;
	}
	if (slots != few)
		free(slots);
	return found;
}

/* Masks */

/* Copies the items whose byte of `mask` is not 0; returns how many these are. */
size_t eu_select(const char *mask, size_t count, const char *data, size_t stride, char *out)
{
	char *at = out;

	for (size_t i = 0; i < count; ) {
		size_t run = i;

		while (i < count && !mask[i])
			i++;
		for (run = i; i < count && mask[i]; )
			i++;
		memcpy(at, data + run * stride, (i - run) * stride);
		at += (i - run) * stride;
	}
	return stride ? (size_t)(at - out) / stride : 0;
}

/*
 * The same of records whose texts stand in the heap one behind another, a NUL behind each, in the order of
 * `strings`: copies the texts of those chosen to `heap_out`, which is as large as the heap, and makes them
 * point there. Returns how long that became, or -1 where a text is not in the heap.
 */
long eu_select_packed(const char *mask, size_t count, const char *data, size_t stride, char *out,
		      const uint32_t *strings, size_t string_count, const char *heap, size_t heap_size,
		      uint32_t heap_at, char *heap_out)
{
	size_t length = 0;

	for (size_t i = 0; i < count; i++) {
		if (!mask[i])
			continue;
		memcpy(out, data + i * stride, stride);
		for (size_t j = 0; j < string_count; j++) {
			uint32_t place[2];

			memcpy(place, out + strings[j], sizeof(place));
			place[0] -= heap_at;
			if (place[0] >= heap_size || place[1] >= heap_size - place[0] ||
			    length + place[1] + 1 > heap_size)
				return -1;
			memcpy(heap_out + length, heap + place[0], place[1] + 1);
			place[0] = length;
			length += place[1] + 1;
			memcpy(out + strings[j], place, sizeof(place));
		}
		out += stride;
	}
	return length;
}
