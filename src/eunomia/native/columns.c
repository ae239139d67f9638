// SPDX-License-Identifier: BSD-2-Clause
/* Work on whole columns of records: distinct values, masks, times, rows of JSON. Runs without the GIL. */
#define _GNU_SOURCE
#include "native.h"

#include <stdlib.h>
#include <string.h>
#include <sys/auxv.h>
#include <time.h>

/* Distinct values */

struct coder {
	const char *data, *heap;
	size_t stride, heap_size;
	uint32_t heap_at;
	const struct eu_span *spans;
	size_t span_count;
	uint64_t seed;
	int word;		/* bytes of the one number that is the value, 0 for anything else */
};

struct slot {
	uint32_t hash;
	uint32_t code;		/* of the value + 1, 0 for an empty slot */
};

static const uint64_t odd = 0x9E3779B97F4A7C15ULL;

static uint64_t mixed(uint64_t a, uint64_t b)
{
	__uint128_t product = (__uint128_t)(a ^ odd) * (b ^ 0xD6E8FEB86659FD93ULL);

	return (uint64_t)product ^ (uint64_t)(product >> 64);
}

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

/* Where the bytes of a record's span are; a place in the heap never leads outside of it. */
static const char *span_bytes(const struct coder *coder, const struct eu_span *span, const char *record, size_t *size)
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
	const void *random = (const void *)getauxval(AT_RANDOM);

	/* values come from strangers, who could choose ones of one hash */
	if (random)
		memcpy(&coder.seed, random, sizeof(coder.seed));
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

/* Times */

#define RFC3339_SIZE 30		/* 2026-11-23T20:05:29.123456789Z */

struct second {
	time_t second;
	char text[RFC3339_SIZE + 1];	/* of it, up to the dot */
};

static void write_time(struct second *known, uint64_t time, char *out)
{
	time_t second = time / 1000000000;
	uint32_t rest = time % 1000000000;

	if (second != known->second) {
		struct tm parts;

		/* a time that no calendar holds comes from a record that is not one of ours */
		if (!gmtime_r(&second, &parts) || parts.tm_year > 8099) {
			memset(&parts, 0, sizeof(parts));
			parts.tm_year = 70;
			parts.tm_mday = 1;
		}
		strftime(known->text, sizeof(known->text), "%Y-%m-%dT%H:%M:%S.", &parts);
		known->second = second;
	}
	memcpy(out, known->text, 20);
	for (int digit = 28; digit >= 20; digit--, rest /= 10)
		out[digit] = '0' + rest % 10;
	out[29] = 'Z';
}

/* Writes times as lines of text, of RFC3339_SIZE bytes and a newline each, and no NUL. */
void eu_rfc3339(const char *data, size_t stride, size_t offset, size_t count, int64_t clock, char *out)
{
	struct second known = { .second = -1 };

	for (size_t i = 0; i < count; i++, data += stride, out += RFC3339_SIZE + 1) {
		uint64_t time;

		memcpy(&time, data + offset, sizeof(time));
		write_time(&known, time + clock, out);
		out[RFC3339_SIZE] = '\n';
	}
}

/* Rows of JSON */

struct writer {
	char *text;
	size_t size, room;
};

static int make_room(struct writer *writer, size_t more)
{
	size_t room = (writer->size + more) * 2;
	char *text;

	if (writer->room - writer->size >= more)
		return 0;
	text = realloc(writer->text, room);
	if (!text)
		return -1;
	writer->text = text;
	writer->room = room;
	return 0;
}

static void write_bytes(struct writer *writer, const char *bytes, size_t size)
{
	memcpy(writer->text + writer->size, bytes, size);
	writer->size += size;
}

static void write_number(struct writer *writer, uint64_t number, int negative)
{
	char digits[24];
	int at = sizeof(digits);

	if (negative)
		number = -number;
	do
		digits[--at] = '0' + number % 10;
	while (number /= 10);
	if (negative)
		digits[--at] = '-';
	write_bytes(writer, digits + at, sizeof(digits) - at);
}

enum { DIGITS = 20 };		/* of a 64-bit number, with its sign */

static void write_field(struct writer *writer, const struct eu_json_part *part, const char *field)
{
	uint64_t number = 0;
	int shift = 64 - 8 * part->size;

	memcpy(&number, field, part->size);
#if __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__
	number >>= shift;
#endif
	if (part->kind == EU_SIGNED) {
		int64_t value = (int64_t)(number << shift) >> shift;

		write_number(writer, value, value < 0);
	} else {
		write_number(writer, number, 0);
	}
}

/* Whether JSON has a text as it is, in ASCII without controls; no early end, so it is done 16 bytes at a time. */
__attribute__((optimize("O3"))) static int is_plain(const char *text, size_t size)
{
	int found = 0;

	for (size_t i = 0; i < size; i++) {
		unsigned char c = text[i];

		found |= (c < 0x20) | (c >= 0x7f) | (c == '"') | (c == '\\');
	}
	return !found;
}

static void write_escaped(struct writer *writer, const char *text, size_t size)
{
	static const char hex[] = "0123456789abcdef";

	for (size_t i = 0; i < size; i++) {
		unsigned char c = text[i];
		const char *named = c && c < 0x20 ? strchr("\bb\tt\nn\ff\rr", c) : NULL;

		if (c == '"' || c == '\\') {
			write_bytes(writer, (char[]){ '\\', c }, 2);
		} else if (named) {
			write_bytes(writer, (char[]){ '\\', named[1] }, 2);
		} else if (c < 0x20 || c == 0x7f) {
			write_bytes(writer, (char[]){ '\\', 'u', '0', '0', hex[c >> 4], hex[c & 15] }, 6);
		} else {
			write_bytes(writer, (char *)&c, 1);
		}
	}
}

/* Writes a text in quotes. Returns 1 where it is not ASCII, which others know better; negative for want of memory. */
static int write_text(struct writer *writer, const char *text, size_t size)
{
	if (make_room(writer, 6 * size + 2))
		return -1;
	if (is_plain(text, size)) {
		write_bytes(writer, "\"", 1);
		write_bytes(writer, text, size);
		write_bytes(writer, "\"", 1);
		return 0;
	}
	for (size_t i = 0; i < size; i++)
		if (text[i] & 0x80)
			return 1;
	write_bytes(writer, "\"", 1);
	write_escaped(writer, text, size);
	write_bytes(writer, "\"", 1);
	return 0;
}

/* Whether a path may have components that lead nowhere. */
static int leads_about(const char *path, size_t size)
{
	for (size_t i = 1; i < size; i++)
		if (path[i - 1] == '/' && (path[i] == '.' || path[i] == '/'))
			return 1;
	return 0;
}

/* The lines of each part's values. */
struct lines {
	const char **starts;	/* of each line, and one past the last; NULL for parts in the order of rows */
	const char *next;	/* line, of parts in the order of rows */
};

static int find_lines(const struct eu_json_part *part, struct lines *lines)
{
	const char *end = part->values + part->values_size;
	size_t count = 0;

	lines->next = part->values;
	if (part->kind != EU_CODED)
		return 0;
	for (const char *at = part->values; at < end; at++)
		count += *at == '\n';
	lines->starts = malloc((count + 1) * sizeof(*lines->starts));
	if (!lines->starts)
		return -1;
	lines->starts[0] = part->values;
	count = 0;
	for (const char *at = part->values; at < end; at++)
		if (*at == '\n')
			lines->starts[++count] = at + 1;
	return 0;
}

/* Writes one value of a row. Returns as write_text() does. */
static int write_part(struct writer *writer, struct coder *records, const struct eu_json_part *part, struct lines *lines,
		      struct second *known, size_t row, int64_t clock)
{
	const char *record = records->data + row * records->stride, *start, *end;
	struct eu_span span = { part->offset, part->size, EU_BYTES };
	size_t size;
	uint64_t time;

	if (make_room(writer, part->label_size + RFC3339_SIZE + DIGITS))
		return -1;
	write_bytes(writer, part->label, part->label_size);
	switch (part->kind) {
	case EU_UNSIGNED:
	case EU_SIGNED:
		write_field(writer, part, record + part->offset);
		break;
	case EU_TIME:
		memcpy(&time, record + part->offset, sizeof(time));
		writer->text[writer->size] = '"';
		write_time(known, time + clock, writer->text + writer->size + 1);
		writer->text[writer->size + 1 + RFC3339_SIZE] = '"';
		writer->size += RFC3339_SIZE + 2;
		break;
	case EU_CHARS:
	case EU_STRING:
	case EU_PATH:
		span.kind = part->kind == EU_CHARS ? EU_TEXT : EU_HEAP;
		start = span_bytes(records, &span, record, &size);
		if (part->kind == EU_PATH && leads_about(start, size))
			return 1;
		return write_text(writer, start, size);
	case EU_EACH:
		start = lines->next;
		end = memchr(start, '\n', part->values + part->values_size - start);
		if (!end)
			return 1;	/* fewer lines than rows */
		lines->next = end + 1;
		goto value;
	case EU_CODED:
		start = lines->starts[part->index[row]];
		end = lines->starts[part->index[row] + 1] - 1;
		goto value;
	case EU_SAME:
		start = part->values;
		end = start + part->values_size;
value:
		if (make_room(writer, end - start))
			return -1;
		write_bytes(writer, start, end - start);
	}
	return 0;
}

/*
 * Writes rows of JSON, one object a line: of each part its label and its value, a comma behind it where it has a
 * label (one without brings label and comma itself, or is empty). Where each row ends goes to `ends`. Returns how
 * many bytes `ret` points to, which eu_free() frees; -1 for want of memory, -2 - i where part i has a text that
 * cannot be written here.
 */
long eu_json(const struct eu_json_part *parts, size_t part_count, const char *data, size_t stride, size_t count,
	     int64_t clock, const char *heap, size_t heap_size, uint32_t heap_at, uint32_t *ends, char **ret)
{
	struct coder records = { data, heap, stride, heap_size, heap_at, NULL, 0, 0, 0 };
	struct lines *lines = calloc(part_count + 1, sizeof(*lines));
	struct second known = { .second = -1 };
	struct writer writer = {};
	long err = lines && !make_room(&writer, count * 128 + 64) ? 0 : -1;

	for (size_t i = 0; i < part_count && !err; i++)
		err = find_lines(parts + i, lines + i);
	for (size_t row = 0; row < count && !err; row++) {
		if (make_room(&writer, 2)) {
			err = -1;
			break;
		}
		write_bytes(&writer, "{", 1);
		for (size_t i = 0; i < part_count && !err; i++) {
			err = write_part(&writer, &records, parts + i, lines + i, &known, row, clock);
			if (err > 0)
				err = -2 - (long)i;
			else if (!err && (err = make_room(&writer, 3)) == 0 && parts[i].label_size)
				write_bytes(&writer, ",", 1);
		}
		if (err)
			break;
		if (writer.text[writer.size - 1] == ',')
			writer.size--;
		write_bytes(&writer, "}\n", 2);
		ends[row] = writer.size;
	}
	for (size_t i = 0; lines && i < part_count; i++)
		free(lines[i].starts);
	free(lines);
	if (err) {
		free(writer.text);
		return err;
	}
	*ret = writer.text;
	return writer.size;
}

void eu_free(void *memory)
{
	free(memory);
}
