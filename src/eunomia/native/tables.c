// SPDX-License-Identifier: BSD-2-Clause
/*
 * Snapshots of maps as rows: read in batches, the CPUs' values merged by a plan that Python computed once from
 * the schema, and rows of zeros left out where the plan says so. All of it without the GIL.
 */
#include "native.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define BATCH_BYTES (1 << 20)	/* of keys and values that one system call is asked for */
#define CURSOR_WORDS 64		/* the kernel keeps a key there for maps other than hashes */

typedef unsigned __int128 u128;
typedef __int128 s128;

struct eu_table {
	struct eu_table_plan plan;
	struct eu_part *parts;
	size_t entry_size;	/* what the kernel gives of one: the values of all CPUs */
	size_t row_size;
	char *keys, *values;	/* of one batch */
	size_t room;		/* entries that fit there */
	char *rows;
	size_t size, capacity;	/* bytes */
	uint8_t *used;		/* by CPU: whether the entry's value has anything in it */
};

static size_t to_8(size_t size)
{
	return (size + 7) & ~(size_t)7;
}

static int fits(const struct eu_table_plan *plan, const struct eu_part *part)
{
	static const uint8_t sizes[17] = { [1] = 1, [2] = 1, [4] = 1, [8] = 1, [16] = 1 };
	uint64_t from = (uint64_t)part->size * part->count, to = (uint64_t)part->wide * part->count;

	if (part->rule > EU_ONE || part->at + from > plan->value_size || part->to + to > plan->row_value_size)
		return 0;
	if (part->bits)
		return !part->is_real && part->size && part->size <= 16 && part->bits <= 64 && part->wide == 8 && part->count == 1 &&
		       part->shift + part->bits <= 8 * part->size;
	if (part->rule == EU_ONE)
		return part->wide == part->size;
	if (part->size > 16 || !sizes[part->size])
		return 0;
	if (part->is_real)
		return (part->size == 4 || part->size == 8) && part->wide == part->size;
	return part->wide == part->size || (part->wide == 8 && part->size < 8);
}

static int resize(char **memory, size_t size)
{
	char *larger = realloc(*memory, size);

	if (!larger)
		return -ENOMEM;
	*memory = larger;
	return 0;
}

static int make_room(struct eu_table *table, size_t entries)
{
	/* one key more: reading by key needs the last one, too */
	if (resize(&table->keys, (entries + 1) * table->plan.key_size + 1) ||
	    resize(&table->values, entries * table->entry_size + 1))
		return -ENOMEM;
	table->room = entries;
	return 0;
}

/* Returns NULL, with errno EINVAL where the parts do not lie within the values or the rows. */
struct eu_table *eu_table_open(const struct eu_table_plan *plan, const struct eu_part *parts, size_t count)
{
	size_t entries, wanted = (size_t)plan->max_entries + 1;	/* one more, to be told that there is none */
	struct eu_table *table;

	for (size_t i = 0; i < count; i++)
		if (!fits(plan, &parts[i])) {
			errno = EINVAL;
			return NULL;
		}
	if (!plan->cpus || (plan->clock_at >= 0 && (uint64_t)plan->clock_at + 8 > plan->value_size) ||
	    (plan->row_per_cpu && plan->row_value_size < to_8(plan->value_size) + 8)) {
		errno = EINVAL;
		return NULL;
	}
	table = calloc(1, sizeof(*table));
	if (!table)
		return NULL;
	table->plan = *plan;
	table->plan.part_count = count;
	table->entry_size = (size_t)plan->value_size * plan->cpus;
	table->row_size = to_8(plan->key_size) + to_8(plan->row_value_size);
	table->parts = malloc(count * sizeof(*parts) + 1);
	table->used = malloc(plan->cpus);
	entries = BATCH_BYTES / (plan->key_size + table->entry_size + 1) + 1;
	if (!table->parts || !table->used || make_room(table, entries < wanted ? entries : wanted)) {
		eu_table_close(table);
		errno = ENOMEM;
		return NULL;
	}
	memcpy(table->parts, parts, count * sizeof(*parts));
	return table;
}

void eu_table_close(struct eu_table *table)
{
	if (!table)
		return;
	free(table->parts);
	free(table->keys);
	free(table->values);
	free(table->rows);
	free(table->used);
	free(table);
}

static int is_zero(const char *from, size_t size)
{
	uint64_t word;

	for (; size >= 8; from += 8, size -= 8) {
		memcpy(&word, from, 8);
		if (word)
			return 0;
	}
	for (; size; from++, size--)
		if (*from)
			return 0;
	return 1;
}

/* A whole number as it stands in a CPU's value, its sign extended to 128 bits. */
static inline u128 number(const struct eu_part *part, const char *from)
{
	u128 wide = 0, top;
	uint64_t n8;
	uint32_t n4;
	uint16_t n2;

	if (part->bits) {
#if __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
		memcpy(&wide, from, part->size);
#else
		memcpy((char *)&wide + sizeof(wide) - part->size, from, part->size);
#endif
		wide = (wide >> part->shift) & (((u128)1 << part->bits) - 1);
		top = (u128)1 << (part->bits - 1);
		return part->is_signed ? (wide ^ top) - top : wide;
	}
	switch (part->size) {
	case 1:
		return part->is_signed ? (u128)(s128)(int8_t)*from : (uint8_t)*from;
	case 2:
		memcpy(&n2, from, 2);
		return part->is_signed ? (u128)(s128)(int16_t)n2 : n2;
	case 4:
		memcpy(&n4, from, 4);
		return part->is_signed ? (u128)(s128)(int32_t)n4 : n4;
	case 8:
		memcpy(&n8, from, 8);
		return part->is_signed ? (u128)(s128)(int64_t)n8 : n8;
	default:
		memcpy(&wide, from, 16);
		return wide;
	}
}

static double real_number(const struct eu_part *part, const char *from)
{
	double wide;
	float narrow;

	if (part->size == 8) {
		memcpy(&wide, from, 8);
		return wide;
	}
	memcpy(&narrow, from, 4);
	return narrow;
}

static void put(const struct eu_part *part, u128 value, char *to)
{
#if __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
	memcpy(to, &value, part->wide);
#else
	memcpy(to, (char *)&value + sizeof(value) - part->wide, part->wide);
#endif
}

static void put_real(const struct eu_part *part, double value, char *to)
{
	float narrow = value;

	memcpy(to, part->size == 8 ? (void *)&value : (void *)&narrow, part->size);
}

/* The commonest: counters of 64 bits, which overflow as C's do. */
static void add_words(const struct eu_table_plan *plan, const struct eu_part *part, const char *values, char *to)
{
	for (uint32_t i = 0; i < part->count; i++) {
		const char *from = values + part->at + 8 * (size_t)i;
		uint64_t sum = 0, word;

		for (uint32_t cpu = 0; cpu < plan->cpus; cpu++, from += plan->value_size) {
			memcpy(&word, from, 8);
			sum += word;
		}
		memcpy(to + 8 * (size_t)i, &sum, 8);
	}
}

static u128 merged(const struct eu_table *table, const struct eu_part *part, const char *from)
{
	u128 found = 0, one;
	int any = 0;

	for (uint32_t cpu = 0; cpu < table->plan.cpus; cpu++, from += table->plan.value_size) {
		/* zeros count for the greatest, of negative numbers too, but not those of CPUs that hold nothing */
		if (part->rule == EU_GREATEST && !table->used[cpu])
			continue;
		one = number(part, from);
		if (part->rule == EU_SUM)
			found += one;
		else if (part->rule == EU_LEAST && !one)
			continue;
		else if (!any || (part->is_signed ? (s128)one < (s128)found : one < found) == (part->rule == EU_LEAST))
			found = one;
		any = 1;
	}
	return found;
}

static double merged_real(const struct eu_table *table, const struct eu_part *part, const char *from)
{
	double found = 0, one;
	int any = 0;

	for (uint32_t cpu = 0; cpu < table->plan.cpus; cpu++, from += table->plan.value_size) {
		if (part->rule == EU_GREATEST && !table->used[cpu])
			continue;
		one = real_number(part, from);
		if (part->rule == EU_SUM)
			found += one;
		else if (part->rule == EU_LEAST && one == 0)
			continue;
		else if (!any || (part->rule == EU_LEAST ? one < found : one > found))
			found = one;
		any = 1;
	}
	return found;
}

static uint64_t clock_of(const struct eu_table_plan *plan, const char *value)
{
	uint64_t when = 0;

	if (plan->clock_at >= 0)
		memcpy(&when, value + plan->clock_at, 8);
	return when;
}

/* Of the CPUs that have something there: the latest one's where values say when they were written, or else the first's. */
static void take_one(const struct eu_table *table, const struct eu_part *part, const char *values, char *to)
{
	const struct eu_table_plan *plan = &table->plan;
	const char *found = NULL, *value = values;
	uint64_t latest = 0;

	for (uint32_t cpu = 0; cpu < plan->cpus; cpu++, value += plan->value_size) {
		uint64_t when;

		if (!table->used[cpu])
			continue;
		when = clock_of(plan, value);
		if (found && when <= latest)
			continue;
		if (part->bits ? !number(part, value + part->at) : is_zero(value + part->at, (size_t)part->size * part->count))
			continue;
		found = value;
		latest = when;
	}
	if (!found)
		found = values;	/* zero on all of them */
	if (part->bits)
		put(part, number(part, found + part->at), to);
	else
		memcpy(to, found + part->at, (size_t)part->size * part->count);
}

static void merge(const struct eu_table *table, const char *values, char *row)
{
	const struct eu_table_plan *plan = &table->plan;

	for (size_t i = 0; i < plan->part_count; i++) {
		const struct eu_part *part = &table->parts[i];
		char *to = row + part->to;

		if (part->rule == EU_ONE) {
			if (plan->cpus == 1 && !part->bits)
				memcpy(to, values + part->at, (size_t)part->size * part->count);
			else
				take_one(table, part, values, to);
		} else if (part->rule == EU_SUM && part->size == 8 && !part->bits && !part->is_real) {
			add_words(plan, part, values, to);
		} else {
			for (uint32_t n = 0; n < part->count; n++, to += part->wide) {
				const char *from = values + part->at + (size_t)n * part->size;

				if (part->is_real)
					put_real(part, merged_real(table, part, from), to);
				else
					put(part, merged(table, part, from), to);
			}
		}
	}
}

static char *new_row(struct eu_table *table, const char *key)
{
	char *row = table->rows + table->size;

	memset(row, 0, table->row_size);
	memcpy(row, key, table->plan.key_size);
	table->size += table->row_size;
	return row + to_8(table->plan.key_size);
}

static void add_entry(struct eu_table *table, const char *key, const char *values)
{
	const struct eu_table_plan *plan = &table->plan;
	int any = 0;

	/* not used for a plain hash */
	for (uint32_t cpu = 0; cpu < plan->cpus && (plan->cpus > 1 || !plan->keep_zeros || plan->row_per_cpu); cpu++) {
		table->used[cpu] = !is_zero(values + (size_t)cpu * plan->value_size, plan->value_size);
		any |= table->used[cpu];
	}
	if (plan->row_per_cpu) {
		for (uint64_t cpu = 0; cpu < plan->cpus; cpu++) {
			char *row;

			if (!table->used[cpu])
				continue;
			row = new_row(table, key);
			memcpy(row, values + cpu * plan->value_size, plan->value_size);
			memcpy(row + to_8(plan->value_size), &cpu, 8);
		}
	} else if (any || plan->keep_zeros) {
		if (plan->cpus == 1)
			table->used[0] = 1;
		merge(table, values, new_row(table, key));
	}
}

/* Adds rows of entries to those that are there; 0, or a negative errno. */
static int add_entries(struct eu_table *table, const char *keys, const char *values, size_t count)
{
	size_t more = count * table->row_size * (table->plan.row_per_cpu ? table->plan.cpus : 1);

	if (table->size + more > table->capacity) {
		size_t capacity = 2 * table->capacity > table->size + more ? 2 * table->capacity : table->size + more;

		if (resize(&table->rows, capacity))
			return -ENOMEM;
		table->capacity = capacity;
	}
	for (size_t i = 0; i < count; i++)
		add_entry(table, keys + i * table->plan.key_size, values + i * table->entry_size);
	return 0;
}

/* Returns how many rows entries become, or a negative errno; `ret` is where they stand until the next call. */
long eu_table_rows(struct eu_table *table, const char *keys, const char *values, size_t count, const char **ret)
{
	int err;

	table->size = 0;
	err = add_entries(table, keys, values, count);
	*ret = table->rows;
	return err ? err : (long)(table->size / table->row_size);
}

/* For maps of which the kernel reads no batches. What it deletes it has read. */
static int read_by_key(struct eu_table *table, int fd, int empty)
{
	char *next = table->keys, *last = table->keys + table->plan.key_size;
	int err, any = 0;

	for (uint32_t n = 0; n < table->plan.max_entries; n++) {
		if (bpf_map_get_next_key(fd, any ? last : NULL, next))
			return errno == ENOENT ? 0 : -errno;
		if (bpf_map_lookup_elem(fd, next, table->values))
			/* deleted meanwhile: its successor is not known any more */
			return errno == ENOENT ? 0 : -errno;
		err = add_entries(table, next, table->values, 1);
		if (err)
			return err;
		if (empty && bpf_map_delete_elem(fd, next) && errno != ENOENT)
			return -errno;
		any = !empty;
		memcpy(last, next, table->plan.key_size);
	}
	return 0;
}

static int read_batches(struct eu_table *table, int fd, int empty)
{
	/* where entries come and go, keys may come twice, but not for ever */
	uint64_t cursor[CURSOR_WORDS] = {}, left = 4 * (uint64_t)table->plan.max_entries + 64;
	void *start = NULL;
	int err;

	if (table->plan.key_size > sizeof(cursor))
		return read_by_key(table, fd, empty);
	for (;;) {
		uint32_t count = table->room;
		int failed = empty ? bpf_map_lookup_and_delete_batch(fd, start, cursor, table->keys, table->values,
								     &count, NULL)
				   : bpf_map_lookup_batch(fd, start, cursor, table->keys, table->values, &count, NULL);
		int reason = errno;

		if (failed && reason == ENOSPC) {	/* a bucket of the hash has more entries than there is room for */
			err = make_room(table, 2 * table->room);
			if (err)
				return err;
			continue;
		}
		if (failed && reason != ENOENT) {
			if (!empty)
				table->size = 0;	/* what was deleted is not read again */
			return read_by_key(table, fd, empty);
		}
		err = add_entries(table, table->keys, table->values, count);
		if (err || failed || count > left)
			return err;
		left -= count;
		start = cursor;
	}
}

/*
 * Reads a whole map, and empties it if told to. Returns how many rows it makes, or a negative errno; `ret` is
 * where they stand until the next call.
 */
long eu_table_read(struct eu_table *table, int fd, int empty, const char **ret)
{
	int err;

	table->size = 0;
	err = read_batches(table, fd, empty);
	*ret = table->rows;
	return err ? err : (long)(table->size / table->row_size);
}
