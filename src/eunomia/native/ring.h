/* SPDX-License-Identifier: BSD-2-Clause */
/* What ring buffers and perf buffers have in common: where records are copied to. */
#ifndef EUNOMIA_RING_H
#define EUNOMIA_RING_H

#include "native.h"

/* A record of unknown shape becomes its size and where in the heap it stands. */
struct unknown_record {
	uint32_t size;
	uint32_t offset, length;
};

struct sink {
	char *data, *heap;
	size_t data_left, heap_at, heap_size;
	struct eu_drained *ret;
};

/* Room for a record's fixed part and for its text; text larger than the whole heap is cut, not stuck on. */
static inline int sink_has_room(const struct sink *sink, size_t fixed, size_t text)
{
	return sink->data_left >= fixed && (!sink->heap_at || sink->heap_size - sink->heap_at >= text);
}

static inline size_t sink_cut(const struct sink *sink, size_t text)
{
	size_t left = sink->heap_size - sink->heap_at;

	return text < left ? text : left;
}

#endif
