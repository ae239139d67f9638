// SPDX-License-Identifier: BSD-2-Clause
/*
 * A ring in a memfd, laid out as the kernel's, filled with records of random sizes and hostile texts, and
 * drained into buffers of random sizes that end where AddressSanitizer sees it. ring.c is included before.
 */
#include <assert.h>

struct fixed {
	uint64_t number;
	uint32_t off, length;
	uint32_t path_off, path_length;
};

static unsigned long *consumer, *producer;
static char *room;
static const size_t size = 8192;

static void put(unsigned long at, const void *from, size_t count)
{
	for (size_t i = 0; i < count; i++)
		room[(at + i) & (size - 1)] = ((const char *)from)[i];
}

static int write_record(uint64_t number, size_t length, uint32_t flags)
{
	char record[4096];
	struct fixed fixed = { number, random(), random(), random(), random() };
	uint32_t header[2] = { length | flags, 0 };
	size_t whole = (length + 8 + 7) / 8 * 8;

	if (*producer + whole - *consumer > size)
		return 0;
	if (random() % 2) {
		fixed.off = sizeof(fixed) + random() % 64;
		fixed.length = random() % 64;
	}
	memset(record, 'x', sizeof(record));
	memcpy(record, &fixed, sizeof(fixed));
	put(*producer, header, 8);
	put(*producer + 8, record, length);
	*producer += whole;
	return 1;
}

int main(void)
{
	size_t page = sysconf(_SC_PAGESIZE);
	int fd = memfd_create("ring", 0);
	uint64_t written = 0, read = 0;
	int rounds = 20000;

	assert(!ftruncate(fd, 2 * page + size));
	consumer = mmap(NULL, page, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	producer = mmap(NULL, page + size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, page);
	room = (char *)producer + page;
	for (int layout = 0; layout < 2; layout++) {
		struct eu_ring *ring = eu_ring_open(fd, size);
		uint32_t strings[] = { 8, 16 };

		assert(ring);
		if (layout)
			eu_ring_layout(ring, sizeof(struct fixed), strings, 2, 2);
		assert(!layout || !eu_ring_code(ring, 0));
		for (int i = 0; i < rounds; i++) {
			size_t data_size = 4096 + random() % 4096, heap_size = 4096 + random() % 8192;
			char *data = malloc(data_size), *heap = malloc(heap_size);
			uint32_t *index = malloc(data_size / sizeof(struct fixed) * sizeof(*index));
			struct eu_drained ret;
			uint64_t expected = read;

			for (int n = random() % 20; n > 0; n--) {
				uint32_t flags = random() % 8 ? 0 : BPF_RINGBUF_DISCARD_BIT;
				size_t length = random() % 4 ? sizeof(struct fixed) + random() % 900 : random() % 4 * 8;

				if (write_record(written, length, flags) && !flags)
					written++;
			}
			eu_ring_drain(ring, data, data_size, heap, heap_size, index, &ret);
			read += ret.records;
			assert(ret.heap <= heap_size);
			for (size_t n = 0; layout && n < ret.records; n++) {
				struct fixed *fixed = (struct fixed *)data + n;

				assert((uint64_t)fixed->off + fixed->length <= ret.heap);
				assert((uint64_t)fixed->path_off + fixed->path_length <= ret.heap);
				if (fixed->number)
					assert(fixed->number == expected + n);
				if (ret.codes)
					assert(eu_ring_codes(ring)[ret.codes == 1 ? 0 : index[n]] == fixed->number);
			}
			free(data);
			free(heap);
			free(index);
		}
		for (int i = 0; i < 100; i++) {
			static char data[65536], heap[65536];
			struct eu_drained ret;

			eu_ring_drain(ring, data, sizeof(data), heap, sizeof(heap), NULL, &ret);
			read += ret.records;
		}
		assert(read == written);
		eu_ring_close(ring);
	}
	puts("ok");
	return 0;
}
