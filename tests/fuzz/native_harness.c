// SPDX-License-Identifier: BSD-2-Clause
/*
 * What the binding does with what strangers wrote: records of perf buffers, times, keys, and files of new
 * containers that change while they are read. native.c is included before, with perf_buffer__consume()
 * replaced by one that hands over records of random sizes; early.c too. argv: seed, rounds, a directory.
 */
#include <assert.h>
#include <sys/stat.h>

static unsigned int seed;

static unsigned int chance(unsigned int below)
{
	return rand_r(&seed) % below;
}

static struct eu_perf *sampled;
static uint64_t sent;

int consume_random(struct perf_buffer *buffer)
{
	(void)buffer;
	for (int n = chance(40); n > 0; n--) {
		uint32_t size = chance(8) ? chance(200) : chance(20000);
		char *record = malloc(size);

		memset(record, 'x', size);
		perf_sample(sampled, 0, record, size);
		free(record);
		sent++;
	}
	if (!chance(10))
		perf_lost(sampled, 0, chance(100));
	return 0;
}

static void perf_is_drained(int rounds)
{
	struct eu_perf *perf = sampled = calloc(1, sizeof(*perf));
	uint64_t lost, read = 0;

	for (int i = 0; i < rounds || read < sent; i++) {
		size_t data_size = 12 + chance(2000), heap_size = 1 + chance(20000);
		char *data = malloc(data_size), *heap = malloc(heap_size);
		struct eu_drained ret;

		eu_perf_drain(perf, data, data_size, heap, heap_size, &ret, &lost);
		assert(ret.heap <= heap_size && ret.records * sizeof(struct unknown_record) <= data_size);
		for (size_t n = 0; n < ret.records; n++) {
			struct unknown_record *record = (struct unknown_record *)data + n;

			assert((size_t)record->offset + record->length <= ret.heap && record->length <= record->size);
		}
		read += ret.records;
		free(data);
		free(heap);
		if (i > rounds + 100000)
			break;
	}
	assert(read == sent);
	free(perf->spill);
	free(perf);
}

static void columns_are_read(int rounds)
{
	for (int i = 0; i < rounds; i++) {
		size_t stride = 8 + chance(40), offset = chance(stride - 7), count = chance(300), found;
		char *data = malloc(count * stride), *out = malloc(count * RFC3339_SIZE);
		uint64_t *keys = malloc(count * sizeof(*keys));
		uint16_t *index = malloc(count * sizeof(*index));

		for (size_t n = 0; n < count * stride; n++)
			data[n] = chance(3) ? chance(256) : -(int)chance(2);
		found = eu_group(data, stride, offset, count, keys, index);
		for (size_t n = 0; n < count; n++)
			assert(index[n] < found && !memcmp(&keys[index[n]], data + n * stride + offset, 8));
		eu_rfc3339(data, stride, offset, count, (int64_t)chance(1u << 31) * chance(1u << 31), out);
		for (size_t n = 0; n < count; n++)
			assert(out[n * RFC3339_SIZE + 4] == '-' && out[n * RFC3339_SIZE + 29] == 'Z');
		free(data);
		free(out);
		free(keys);
		free(index);
	}
}

static char directory[128];
static int over;

static void name_of(char *out, size_t size, int i)
{
	snprintf(out, size, "%s/%d/config.json", directory, i);
}

/* Does to the files what their owner may: other kinds of files, larger, shorter, gone. */
static void *replace(void *unused)
{
	unsigned int own = seed + 1;
	static char bytes[3 << 20];
	char path[256], other[256];

	memset(bytes, '{', sizeof(bytes));
	while (!__atomic_load_n(&over, __ATOMIC_RELAXED)) {
		int kind = rand_r(&own) % 8, fd;

		name_of(path, sizeof(path), rand_r(&own) % 4);
		snprintf(other, sizeof(other), "%s/other", directory);
		if (kind < 4)
			unlink(path), rmdir(path);
		if (kind == 0) {
			mkfifo(path, 0600);
		} else if (kind == 1) {
			assert(symlink(rand_r(&own) % 2 ? "/dev/zero" : "config.json", path) == 0 || errno == EEXIST);
		} else if (kind == 2) {
			mkdir(path, 0700);
		} else if (kind == 3) {
			fd = open(other, O_WRONLY | O_CREAT | O_TRUNC, 0600);
			assert(fd >= 0 && write(fd, bytes, rand_r(&own) % 4096) >= 0);
			close(fd);
			rename(other, path);
		} else {
			fd = open(path, O_WRONLY | O_CREAT | O_NONBLOCK | O_NOFOLLOW, 0600);
			if (fd >= 0 && kind == 4)
				assert(!ftruncate(fd, (off_t)1 << (rand_r(&own) % 40)) || errno);
			else if (fd >= 0 && kind == 5)
				assert(write(fd, bytes, rand_r(&own) % sizeof(bytes)) >= 0 || errno);
			else if (fd >= 0)
				assert(!ftruncate(fd, rand_r(&own) % 8192) || errno);
			if (fd >= 0)
				close(fd);
		}
	}
	return unused;
}

/* Asks for what is kept, and names other places, as Python does meanwhile. */
static void *ask(void *context)
{
	struct eu_early *early = context;
	unsigned int own = seed + 2;
	char path[256], pairs[512];

	while (!__atomic_load_n(&over, __ATOMIC_RELAXED)) {
		size_t room = rand_r(&own) % 3 ? rand_r(&own) % 4096 : FILE_BYTES;
		char *out = malloc(room);
		int64_t written;
		long size;

		name_of(path, sizeof(path), rand_r(&own) % 5);
		size = eu_early_find(early, path, out, room, &written);
		assert(size == -1 || (size > 0 && size <= FILE_BYTES));
		assert(size <= 0 || (size_t)size > room || out[0] == '{' || !out[0]);
		free(out);
		size = snprintf(pairs, sizeof(pairs), "%s/%c/config.json%c", directory, 0, 0);
		eu_early_places(early, pairs, rand_r(&own) % 4 ? (size_t)size : 0);
	}
	return NULL;
}

static void new_cgroup(struct eu_early *early)
{
	static const char *const names[] = { "0", "1", "2", "3", ".", "..", "", "..scope", "...scope", ".scope", "docker-" };
	size_t length = 8, head = chance(6) * 40;
	char *record = malloc(8 + head + 400);
	const char *name = names[chance(sizeof(names) / sizeof(*names))];

	memset(record, 0xff, 8);
	memset(record + length, 'a', head);
	length += head;
	if (chance(10))
		record[length++] = '/';
	if (!chance(4)) {
		for (int n = chance(390); n > 0; n--)
			record[length++] = chance(256);
	} else {
		memcpy(record + length, name, strlen(name));
		length += strlen(name);
		if (chance(2))
			memcpy(record + length, ".scope", 6), length += 6;
	}
	if (!chance(20))
		length = chance(length + 1);
	record = realloc(record, length ? length : 1);	/* so that a byte behind it is seen */
	on_new(early, record, length);
	free(record);
}

static void files_are_read_early(int rounds)
{
	struct eu_early *early = calloc(1, sizeof(*early));
	char path[256], places[12000];
	pthread_t threads[2];
	size_t size;

	for (int i = 0; i < 4; i++) {
		snprintf(path, sizeof(path), "%s/%d", directory, i);
		mkdir(path, 0700);
	}
	early->epoll = early->stop = -1;
	pthread_mutex_init(&early->lock, NULL);
	size = snprintf(places, sizeof(places), "%s/%c/config.json%c", directory, 0, 0);
	size += snprintf(places + size, sizeof(places) - size, "/%05000d/%c/x%c", 0, 0, 0);	/* ENAMETOOLONG */
	eu_early_places(early, places, size);
	pthread_create(&threads[0], NULL, replace, NULL);
	pthread_create(&threads[1], NULL, ask, early);
	for (int i = 0; i < rounds; i++) {
		new_cgroup(early);
		assert(early->bytes <= KEPT_BYTES + FILE_BYTES);
	}
	__atomic_store_n(&over, 1, __ATOMIC_RELAXED);
	pthread_join(threads[0], NULL);
	pthread_join(threads[1], NULL);
	early_free(early);
}

int main(int argc, char **argv)
{
	int rounds;

	assert(argc == 4);
	seed = atoi(argv[1]);
	rounds = atoi(argv[2]);
	snprintf(directory, sizeof(directory), "%s", argv[3]);
	perf_is_drained(rounds);
	columns_are_read(rounds);
	files_are_read_early(rounds);
	puts("ok");
	return 0;
}
