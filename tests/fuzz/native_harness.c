// SPDX-License-Identifier: BSD-2-Clause
/*
 * What the binding does with what strangers wrote: records of perf buffers, times, keys, maps of any types, and
 * files of new containers that change while they are read. native.c, perf.c, early.c and others are included before,
 * with perf_buffer__consume() and the calls that read maps replaced by those below, which hand over what they
 * like. argv: seed, rounds, a directory.
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

int random_perf_buffer__consume(struct perf_buffer *buffer)
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

/* Texts one behind another in the heap, as a drain leaves them. */
static size_t packed(char *data, size_t stride, size_t count, const uint32_t *strings, size_t string_count, char *heap)
{
	size_t at = 0;

	for (size_t n = 0; n < count; n++)
		for (size_t i = 0; i < string_count; i++) {
			uint32_t place[2] = { at, chance(12) };

			memcpy(data + n * stride + strings[i], place, sizeof(place));
			for (size_t j = 0; j < place[1]; j++)
				heap[at++] = chance(4) ? 'a' + chance(4) : chance(256);
			heap[at++] = 0;
		}
	return at;
}

static void columns_are_read(int rounds)
{
	for (int i = 0; i < rounds; i++) {
		size_t stride = 24 + chance(40), count = chance(600), most = 1 + chance(count + 1), kept = 0;
		size_t heap_size = 1 + chance(400);
		char *data = malloc(count * stride + 1), *out = malloc(count * (stride + RFC3339_SIZE + 1) + 1);
		char *heap = malloc(count * 24 + 400), *mask = malloc(count + 1), *heap_out = malloc(count * 24 + 400);
		char lines[] = "1\n\"two\"\n3\n";
		uint32_t *first = malloc(most * sizeof(*first)), *index = malloc((count + 1) * sizeof(*index));
		uint32_t *ends = malloc((count + 1) * sizeof(*ends));
		struct eu_span spans[3];
		uint32_t strings[] = { 0, 8 };
		struct eu_json_part parts[9] = {};
		struct eu_text text = {};
		long found, size;

		for (size_t n = 0; n < count * stride; n++)
			data[n] = chance(3) ? chance(256) : -(int)chance(2);
		for (size_t n = 0; n < heap_size; n++)
			heap[n] = chance(256);
		for (size_t n = 0; n < count; n++)
			kept += mask[n] = chance(2);
		for (int j = 0; j < 3; j++)
			spans[j] = (struct eu_span){ 8 * j, 8, chance(3) };
		found = eu_code(data, stride, count, heap, heap_size, chance(9), spans, 1 + chance(3), most, first, index);
		assert(found >= 0 && (size_t)found <= most);
		for (size_t n = 0; found && n < count; n++)
			assert(index[n] < found && first[index[n]] <= n);
		eu_rfc3339(data, stride, chance(stride - 7), count, (int64_t)chance(1u << 31) * chance(1u << 31), out);
		for (size_t n = 0; n < count; n++)
			assert(out[n * (RFC3339_SIZE + 1) + 4] == '-' && out[n * (RFC3339_SIZE + 1) + 29] == 'Z');
		assert(eu_select(mask, count, data, stride, out) == kept);
		eu_select_packed(mask, count, data, stride, out, strings, 2, heap, heap_size, chance(9), heap_out);
		for (int j = 0; j < 9; j++) {
			parts[j] = (struct eu_json_part){ "\"k\":", 4, j, chance(stride - 15), 1 << chance(4), lines, sizeof(lines) - 1, index };
			if (j >= EU_CHARS && j <= EU_PATH)
				parts[j].size = 8;
		}
		for (size_t n = 0; n < count; n++)
			index[n] = chance(3);
		size = eu_json(parts, 1 + chance(9), data, stride, count, 0, heap, heap_size, chance(9), ends, &text);
		assert(size < 0 || !count || (size == ends[count - 1] && text.text[size - 1] == '\n'));
		eu_text_free(&text);
		heap_size = packed(data, stride, count, strings, 2, heap);
		found = eu_select_packed(mask, count, data, stride, out, strings, 2, heap, heap_size, 0, heap_out);
		assert(!count || (found >= 0 && (size_t)found <= heap_size));
		free(data);
		free(out);
		free(heap);
		free(heap_out);
		free(mask);
		free(first);
		free(index);
		free(ends);
	}
}

/* A map as the kernel reads it out: in batches of any size, or refusing them at any time. */

static struct {
	size_t key_size, entry_size;
	uint64_t entries, at, deleted;
	int refuses;		/* one call in so many; 0: none */
	int bucket;		/* entries that only fit together */
} map;

static void give_entries(char *keys, char *values, uint32_t count)
{
	for (uint32_t n = 0; n < count; n++, map.at++) {
		memset(keys + n * map.key_size, 0, map.key_size);
		memcpy(keys + n * map.key_size, &map.at, map.key_size < 8 ? map.key_size : 8);
		for (size_t i = 0; i < map.entry_size; i++)
			values[n * map.entry_size + i] = chance(4) ? 0 : chance(3) ? chance(256) : 255;
	}
}

static int batch(void *in, void *out, void *keys, void *values, uint32_t *count)
{
	uint64_t left;

	map.at = 0;
	if (in)
		memcpy(&map.at, in, map.key_size < 8 ? map.key_size : 8);
	left = map.entries - map.at;
	if (map.refuses && !chance(map.refuses)) {
		errno = (int[]){ EINVAL, ENOTSUP, EINTR, EFAULT }[chance(4)];
		return -1;
	}
	if (left && *count < left && *count < (uint32_t)map.bucket) {
		*count = 0;
		errno = ENOSPC;
		return -1;
	}
	*count = left && left <= *count ? left : left ? 1 + chance(*count) : 0;
	give_entries(keys, values, *count);
	if (*count == left) {
		errno = ENOENT;
		return -1;
	}
	memset(out, 0, map.key_size);
	memcpy(out, &map.at, map.key_size < 8 ? map.key_size : 8);
	return 0;
}

int random_bpf_map_lookup_batch(int fd, void *in, void *out, void *keys, void *values, __u32 *count,
				const struct bpf_map_batch_opts *opts)
{
	(void)fd, (void)opts;
	return batch(in, out, keys, values, count);
}

int random_bpf_map_lookup_and_delete_batch(int fd, void *in, void *out, void *keys, void *values, __u32 *count,
					   const struct bpf_map_batch_opts *opts)
{
	(void)fd, (void)opts;
	return batch(in, out, keys, values, count);
}

int random_bpf_map_get_next_key(int fd, const void *key, void *next)
{
	uint64_t at = map.deleted;

	(void)fd;
	if (key) {
		at = 0;
		memcpy(&at, key, map.key_size < 8 ? map.key_size : 8);
		at++;
	}
	if (at >= map.entries) {
		errno = ENOENT;
		return -1;
	}
	memset(next, 0, map.key_size);
	memcpy(next, &at, map.key_size < 8 ? map.key_size : 8);
	return 0;
}

int random_bpf_map_lookup_elem(int fd, const void *key, void *value)
{
	char copy[600];

	(void)fd;
	assert(map.key_size <= sizeof(copy));
	memcpy(copy, key, map.key_size);
	if (!chance(200)) {
		errno = chance(2) ? ENOENT : EPERM;
		return -1;
	}
	give_entries(copy, value, 1);
	return 0;
}

int random_bpf_map_delete_elem(int fd, const void *key)
{
	(void)fd, (void)key;
	map.deleted++;
	return 0;
}

static void random_part(struct eu_part *part, const struct eu_table_plan *plan)
{
	static const uint32_t sizes[] = { 1, 2, 4, 8, 16, 3, 0, 40 };

	memset(part, 0, sizeof(*part));
	part->rule = chance(5);
	part->size = sizes[chance(8)];
	part->wide = chance(3) ? part->size : 8;
	part->count = chance(4) ? chance(5) : chance(2) ? 0x40000000 : 0xffffffff;
	part->is_signed = chance(2);
	part->is_real = !chance(6);
	part->at = chance(20) ? chance(plan->value_size + 1) : 0xfffffff8;
	part->to = chance(20) ? chance(plan->row_value_size + 1) : 0xfffffff8;
	if (!chance(5)) {
		part->bits = chance(70);
		part->shift = chance(70);
		part->size = chance(18);
		part->count = 1;
		part->wide = 8;
	}
}

static void tables_are_read(int rounds)
{
	for (int i = 0; i < rounds; i++) {
		struct eu_part parts[6];
		struct eu_table_plan plan = {
			.key_size = chance(20) ? 4 + chance(16) : 520, .cpus = 1 + chance(5), .value_size = 8 * chance(12),
			.max_entries = chance(2000), .row_value_size = chance(300), .clock_at = chance(2) ? -1 : (int)chance(80),
			.keep_zeros = chance(2), .row_per_cpu = !chance(4),
		};
		struct eu_table *table;
		size_t row;

		if (plan.cpus == 1)
			plan.value_size = chance(90);
		if (plan.row_per_cpu)
			plan.row_value_size = to_8(plan.value_size) + 8;
		row = to_8(plan.key_size) + to_8(plan.row_value_size);
		for (int n = 0; n < 6; n++)
			do
				random_part(&parts[n], &plan);
			while (!fits(&plan, &parts[n]) && chance(200));
		table = eu_table_open(&plan, parts, 6);
		if (!table) {
			assert(errno == EINVAL);
			continue;
		}
		map.key_size = plan.key_size;
		map.entry_size = (size_t)plan.value_size * plan.cpus;
		for (int n = 0; n < 3; n++) {
			int empty = chance(2);
			const char *rows = NULL;
			char *copy;
			long count;

			map.entries = chance(plan.max_entries + 1);
			map.deleted = 0;
			map.refuses = chance(3) ? 0 : 3;
			map.bucket = chance(30);
			count = eu_table_read(table, 0, empty, &rows);
			assert(count >= 0 || count == -EPERM);
			assert(map.refuses || map.key_size > 512 || !plan.keep_zeros || plan.row_per_cpu || count == (long)map.entries);
			copy = malloc(count > 0 ? count * row : 1);	/* each byte is read, and was written */
			if (count > 0)
				memcpy(copy, rows, count * row);
			free(copy);
		}
		eu_table_close(table);
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
	tables_are_read(rounds);
	files_are_read_early(rounds);
	puts("ok");
	return 0;
}
