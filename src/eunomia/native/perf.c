// SPDX-License-Identifier: BSD-2-Clause
/* Taking records out of perf buffers. */
#define _GNU_SOURCE
#include "ring.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* Perf buffers are met in foreign objects only: libbpf reads them, and they keep to one shape of batch. */
struct eu_perf {
	struct perf_buffer *buffer;
	struct sink sink;
	char *spill;		/* what did not fit the caller's buffers, kept for the next drain */
	size_t spill_size, spill_room;
	uint64_t lost;
};

static int perf_take(struct sink *sink, const void *data, uint32_t size)
{
	struct unknown_record record = { size, sink->heap_at, sink_cut(sink, size) };

	if (!sink_has_room(sink, sizeof(record), size))
		return -1;
	memcpy(sink->data, &record, sizeof(record));
	memcpy(sink->heap + sink->heap_at, data, record.length);
	sink->data += sizeof(record);
	sink->data_left -= sizeof(record);
	sink->heap_at += record.length;
	sink->ret->records++;
	return 0;
}

static void perf_sample(void *ctx, int cpu, void *data, __u32 size)
{
	struct eu_perf *perf = ctx;
	size_t need = perf->spill_size + sizeof(size) + size;

	(void)cpu;
	if (!perf->spill_size && !perf_take(&perf->sink, data, size))
		return;
	if (need > perf->spill_room) {
		char *spill = realloc(perf->spill, need * 2);

		if (!spill) {
			perf->lost++;
			return;
		}
		perf->spill = spill;
		perf->spill_room = need * 2;
	}
	memcpy(perf->spill + perf->spill_size, &size, sizeof(size));
	memcpy(perf->spill + perf->spill_size + sizeof(size), data, size);
	perf->spill_size = need;
}

static void perf_lost(void *ctx, int cpu, __u64 count)
{
	struct eu_perf *perf = ctx;

	(void)cpu;
	perf->lost += count;
}

struct eu_perf *eu_perf_open(int fd, size_t pages)
{
	struct eu_perf *perf = calloc(1, sizeof(*perf));

	if (!perf)
		return NULL;
	perf->buffer = perf_buffer__new(fd, pages, perf_sample, perf_lost, perf, NULL);
	if (!perf->buffer) {
		int err = errno;

		free(perf);
		errno = err;
		return NULL;
	}
	return perf;
}

void eu_perf_close(struct eu_perf *perf)
{
	perf_buffer__free(perf->buffer);
	free(perf->spill);
	free(perf);
}

int eu_perf_fd(const struct eu_perf *perf)
{
	return perf_buffer__epoll_fd(perf->buffer);
}

/* As eu_ring_drain() does for records of unknown shape; `lost` counts from the start. */
int eu_perf_drain(struct eu_perf *perf, char *data, size_t data_size, char *heap, size_t heap_size,
		  struct eu_drained *ret, uint64_t *lost)
{
	size_t done = 0;
	int err = 0;

	memset(ret, 0, sizeof(*ret));
	perf->sink = (struct sink){ data, heap, data_size, 0, heap_size, ret };
	while (done < perf->spill_size) {
		uint32_t size;

		memcpy(&size, perf->spill + done, sizeof(size));
		if (perf_take(&perf->sink, perf->spill + done + sizeof(size), size))
			break;
		done += sizeof(size) + size;
	}
	if (done)
		memmove(perf->spill, perf->spill + done, perf->spill_size - done);
	perf->spill_size -= done;
	if (!perf->spill_size)
		err = perf_buffer__consume(perf->buffer);
	ret->heap = perf->sink.heap_at;
	ret->waiting = perf->spill_size;
	*lost = perf->lost;
	return err < 0 ? err : perf->spill_size > 0;
}
