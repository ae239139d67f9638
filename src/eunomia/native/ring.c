// SPDX-License-Identifier: BSD-2-Clause
/* Taking records out of BPF ring buffers, and sleeping until there are some. */
#define _GNU_SOURCE
#include "ring.h"
#include "coding.h"

#include <errno.h>
#include <linux/membarrier.h>
#include <malloc.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

/*
 * A consumer of BPF ring buffers. libbpf's own calls back for each record and maps the data twice, in a
 * row; ours copies records into two buffers, and maps the data once, which halves what it costs in
 * resident memory.
 */
#define PREFETCH 1024	/* bytes ahead of the record that is read */

struct eu_ring {
	unsigned long *consumer;
	const unsigned long *producer;
	const char *data;
	size_t size;		/* bytes of data, a power of two */
	size_t fixed;		/* bytes of a record's fixed part, 0 for records of unknown shape */
	size_t strings[EU_MAX_STRINGS];	/* where in the fixed part str_t stands */
	size_t string_count;
	uint32_t paths;		/* which of them are paths, a bit each */
	size_t coded_at;	/* where in the fixed part the number stands that is coded */
	struct coding *coding;	/* NULL where none is */
};

/*
 * Lets malloc(3) keep what batches were in: it would ask the kernel for such sizes again each time, and a
 * fresh page costs more than what is written into it.
 */
void eu_keep_memory(void)
{
	mallopt(M_MMAP_THRESHOLD, 4 << 20);
	mallopt(M_TRIM_THRESHOLD, 4 << 20);
}

struct eu_ring *eu_ring_open(int fd, size_t size)
{
	size_t page = sysconf(_SC_PAGESIZE);
	struct eu_ring *ring = calloc(1, sizeof(*ring));
	void *consumer, *producer;

	if (!ring)
		return NULL;
	consumer = mmap(NULL, page, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (consumer == MAP_FAILED)
		goto no_consumer;
	producer = mmap(NULL, page + size, PROT_READ, MAP_SHARED, fd, page);
	if (producer == MAP_FAILED)
		goto no_producer;
	ring->consumer = consumer;
	ring->producer = producer;
	ring->data = (const char *)producer + page;
	ring->size = size;
	return ring;

no_producer:
	munmap(consumer, page);
no_consumer:
	free(ring);
	return NULL;
}

void eu_ring_close(struct eu_ring *ring)
{
	size_t page = sysconf(_SC_PAGESIZE);

	munmap(ring->consumer, page);
	munmap((void *)ring->producer, page + ring->size);
	free(ring->coding);
	free(ring);
}

void eu_ring_layout(struct eu_ring *ring, size_t fixed, const uint32_t *strings, size_t count, uint32_t paths)
{
	ring->fixed = fixed;
	ring->paths = paths;
	ring->string_count = count < EU_MAX_STRINGS ? count : EU_MAX_STRINGS;
	for (size_t i = 0; i < ring->string_count; i++)
		ring->strings[i] = strings[i];
}

/* From now on drains find the distinct values of the 64-bit number at `offset`. Returns negative for want of memory. */
int eu_ring_code(struct eu_ring *ring, size_t offset)
{
	if (!ring->coding)
		ring->coding = calloc(1, sizeof(*ring->coding));
	ring->coded_at = offset;
	return ring->coding ? 0 : -1;
}

/* The values that the last drain found, as many as it said. */
const uint64_t *eu_ring_codes(const struct eu_ring *ring)
{
	return ring->coding->values;
}

/* How many bytes were taken out of the ring since it was made, and how many were put in. */
uint64_t eu_ring_consumed(const struct eu_ring *ring)
{
	return *ring->consumer;
}

uint64_t eu_ring_produced(const struct eu_ring *ring)
{
	return __atomic_load_n(ring->producer, __ATOMIC_ACQUIRE);
}

size_t eu_ring_waiting(const struct eu_ring *ring)
{
	return __atomic_load_n(ring->producer, __ATOMIC_ACQUIRE) - *ring->consumer;
}

static void ring_copy(const struct eu_ring *ring, unsigned long at, char *out, size_t size)
{
	size_t offset = at & (ring->size - 1), first = ring->size - offset;

	if (first >= size) {
		memcpy(out, ring->data + offset, size);
		return;
	}
	memcpy(out, ring->data + offset, first);
	memcpy(out + first, ring->data, size - first);
}

/* Reads the str_t at `field`; it never reaches outside of its record, whatever it says. */
static void string_place(const char *field, size_t size, uint32_t *off, uint32_t *len)
{
	memcpy(off, field, sizeof(*off));
	memcpy(len, field + sizeof(*off), sizeof(*len));
	if (*off > size)
		*off = size;
	if (*len > size - *off)
		*len = size - *off;
}

/* Whether a path may have components that lead nowhere. No early end: so it is done 16 bytes at a time. */
__attribute__((optimize("O3"))) static int path_untidy(const char *path, size_t size)
{
	int found = 0;

	for (size_t i = 1; i < size; i++)
		found |= (path[i - 1] == '/') & ((path[i] == '.') | (path[i] == '/'));
	return found;
}

/*
 * Puts a record's texts into the heap, one after another in the order of their fields, a NUL behind each,
 * and lets the str_t point there. Returns -1 when they do not fit.
 */
static int take_strings(const struct eu_ring *ring, struct sink *sink, unsigned long body, size_t size)
{
	size_t need = ring->string_count;
	uint32_t off, len;

	for (size_t i = 0; i < ring->string_count; i++) {
		string_place(sink->data + ring->strings[i], size, &off, &len);
		need += len;
	}
	if (!sink_has_room(sink, 0, need))
		return -1;
	for (size_t i = 0; i < ring->string_count; i++) {
		char *field = sink->data + ring->strings[i];
		uint32_t at = sink->heap_at;

		string_place(field, size, &off, &len);
		/* room is kept for the NULs that follow */
		len = sink_cut(sink, len + ring->string_count - i) - (ring->string_count - i);
		ring_copy(ring, body + off, sink->heap + at, len);
		sink->heap[at + len] = 0;
		if (ring->paths >> i & 1)
			sink->ret->untidy |= path_untidy(sink->heap + at, len);
		memcpy(field, &at, sizeof(at));
		memcpy(field + sizeof(at), &len, sizeof(len));
		sink->heap_at += len + 1;
	}
	return 0;
}

/*
 * Copies what the ring holds, up to what fits: each record's fixed part to `data`, its texts to `heap`, which of
 * the coded values it has to `index`, where there are several. Returns 1 when it stopped for want of room, else 0.
 */
int eu_ring_drain(struct eu_ring *ring, char *data, size_t data_size, char *heap, size_t heap_size, uint32_t *index,
		  struct eu_drained *ret)
{
	struct sink sink = { data, heap, data_size, 0, heap_size, ret };
	unsigned long at = *ring->consumer;
	unsigned long end = __atomic_load_n(ring->producer, __ATOMIC_ACQUIRE);
	size_t fixed = ring->fixed ? ring->fixed : sizeof(struct unknown_record);
	struct coding *coding = index ? ring->coding : NULL;
	int full = 0;

	memset(ret, 0, sizeof(*ret));
	if (coding)
		coding_start(coding, index);
	while (at < end) {
		const uint32_t *header = (const uint32_t *)(ring->data + (at & (ring->size - 1)));

		uint32_t word = __atomic_load_n(header, __ATOMIC_ACQUIRE);
		size_t size = word & ~(BPF_RINGBUF_BUSY_BIT | BPF_RINGBUF_DISCARD_BIT), head;
		unsigned long body = at + BPF_RINGBUF_HDR_SZ;

		if (word & BPF_RINGBUF_BUSY_BIT)
			break;
		/* records come from another processor's cache: ask for them in time, but not for those being written */
		if (at + PREFETCH < end)
			__builtin_prefetch(ring->data + ((at + PREFETCH) & (ring->size - 1)));
		if (word & BPF_RINGBUF_DISCARD_BIT)
			goto next;
		if (!sink_has_room(&sink, fixed, ring->fixed ? 0 : size)) {
			full = 1;
			break;
		}
		if (!ring->fixed) {
			struct unknown_record record = { size, sink.heap_at, sink_cut(&sink, size) };

			memcpy(sink.data, &record, sizeof(record));
			ring_copy(ring, body, sink.heap + sink.heap_at, record.length);
			sink.heap_at += record.length;
			goto taken;
		}
		head = size < fixed ? size : fixed;
		ring_copy(ring, body, sink.data, head);
		if (head < fixed)
			memset(sink.data + head, 0, fixed - head);
		if (ring->string_count && take_strings(ring, &sink, body, size)) {
			full = 1;
			break;
		}
		ret->odd += head < fixed;
		if (coding) {
			uint64_t value;

			memcpy(&value, sink.data + ring->coded_at, sizeof(value));
			coding_take(coding, value, ret->records);
		}
taken:
		sink.data += fixed;
		sink.data_left -= fixed;
		ret->records++;
next:
		at += (size + BPF_RINGBUF_HDR_SZ + 7) / 8 * 8;
	}
	__atomic_store_n(ring->consumer, at, __ATOMIC_RELEASE);
	ret->heap = sink.heap_at;
	ret->waiting = end - at;
	if (coding && !coding->has_more)
		ret->codes = coding->found;
	return full;
}

/* Lets go of what the ring holds, up to a record that is still being written. */
void eu_ring_skip(struct eu_ring *ring)
{
	unsigned long at = *ring->consumer;
	unsigned long end = __atomic_load_n(ring->producer, __ATOMIC_ACQUIRE);

	while (at < end) {
		const uint32_t *header = (const uint32_t *)(ring->data + (at & (ring->size - 1)));
		uint32_t word = __atomic_load_n(header, __ATOMIC_ACQUIRE);

		if (word & BPF_RINGBUF_BUSY_BIT)
			break;
		at += ((word & ~BPF_RINGBUF_DISCARD_BIT) + BPF_RINGBUF_HDR_SZ + 7) / 8 * 8;
	}
	__atomic_store_n(ring->consumer, at, __ATOMIC_RELEASE);
}

/* Whether any of these rings has something. */
int eu_any_waiting(struct eu_ring **rings, size_t count)
{
	for (size_t i = 0; i < count; i++)
		if (eu_ring_waiting(rings[i]))
			return 1;
	return 0;
}

/*
 * Sleeps until a probe has written something, at most so long. Returns whether there is something.
 * Rings whose probes wake no reader are checked every `look` milliseconds; 0 where there are none.
 */
int eu_wait(int epoll_fd, uint32_t **armed, size_t armed_count, struct eu_ring **rings, size_t ring_count,
	    int milliseconds, int look)
{
	struct epoll_event events[16];
	int left = milliseconds, ready;

	for (size_t i = 0; i < armed_count; i++)
		__atomic_store_n(armed[i], 1, __ATOMIC_SEQ_CST);
	/* records written before it was armed caused no wakeup */
	while (!(ready = eu_any_waiting(rings, ring_count)) && left > 0) {
		int now = look && look < left ? look : left;

		ready = epoll_wait(epoll_fd, events, 16, now);
		if (ready < 0)
			ready = -errno;
		if (ready)
			break;
		left -= now;
	}
	for (size_t i = 0; i < armed_count; i++)
		__atomic_store_n(armed[i], 0, __ATOMIC_RELAXED);
	return ready;
}

/* Waits until every program that runs now has ended: what it wrote can then be read. */
void eu_settle(void)
{
	syscall(SYS_membarrier, MEMBARRIER_CMD_GLOBAL, 0, 0);
}

void eu_sleep(int milliseconds)
{
	struct timespec left = { milliseconds / 1000, milliseconds % 1000 * 1000000L };

	nanosleep(&left, NULL);
}
