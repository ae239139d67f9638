// SPDX-License-Identifier: BSD-2-Clause
/* Text made of records: times, rows of JSON. Runs without the GIL. */
#define _GNU_SOURCE
#include "columns.h"

#include <stdlib.h>
#include <time.h>

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

#define TEXT_KEPT (8 << 20)	/* bytes of memory that one batch leaves to the next */

static int writer_room(struct eu_text *writer, size_t more)
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

static void write_bytes(struct eu_text *writer, const char *bytes, size_t size)
{
	memcpy(writer->text + writer->size, bytes, size);
	writer->size += size;
}

static void write_number(struct eu_text *writer, uint64_t number, int negative)
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

static void write_field(struct eu_text *writer, const struct eu_json_part *part, const char *field)
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

static void write_escaped(struct eu_text *writer, const char *text, size_t size)
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
static int write_text(struct eu_text *writer, const char *text, size_t size)
{
	if (writer_room(writer, 6 * size + 2))
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
static int write_part(struct eu_text *writer, struct coder *records, const struct eu_json_part *part, struct lines *lines,
		      struct second *known, size_t row, int64_t clock)
{
	const char *record = records->data + row * records->stride, *start, *end;
	struct eu_span span = { part->offset, part->size, EU_BYTES };
	size_t size;
	uint64_t time;

	if (writer_room(writer, part->label_size + RFC3339_SIZE + DIGITS))
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
		if (writer_room(writer, end - start))
			return -1;
		write_bytes(writer, start, end - start);
	}
	return 0;
}

/* Lets a text's memory go. */
void eu_text_free(struct eu_text *text)
{
	free(text->text);
	*text = (struct eu_text){};
}

/*
 * Writes rows of JSON, one object a line: of each part its label and its value, a comma behind it where it has a
 * label (one without brings label and comma itself, or is empty). Where each row ends goes to `ends`. Returns how
 * many bytes `text` has; -1 for want of memory, -2 - i where part i has a text that cannot be written here.
 */
long eu_json(const struct eu_json_part *parts, size_t part_count, const char *data, size_t stride, size_t count,
	     int64_t clock, const char *heap, size_t heap_size, uint32_t heap_at, uint32_t *ends, struct eu_text *text)
{
	struct coder records = { data, heap, stride, heap_size, heap_at, NULL, 0, 0, 0 };
	struct lines *lines = calloc(part_count + 1, sizeof(*lines));
	struct second known = { .second = -1 };
	long err;

	if (text->room > TEXT_KEPT)
		eu_text_free(text);
	text->size = 0;
	err = lines && !writer_room(text, count * 128 + 64) ? 0 : -1;
	for (size_t i = 0; i < part_count && !err; i++)
		err = find_lines(parts + i, lines + i);
	for (size_t row = 0; row < count && !err; row++) {
		if (writer_room(text, 2)) {
			err = -1;
			break;
		}
		write_bytes(text, "{", 1);
		for (size_t i = 0; i < part_count && !err; i++) {
			err = write_part(text, &records, parts + i, lines + i, &known, row, clock);
			if (err > 0)
				err = -2 - (long)i;
			else if (!err && (err = writer_room(text, 3)) == 0 && parts[i].label_size)
				write_bytes(text, ",", 1);
		}
		if (err)
			break;
		if (text->text[text->size - 1] == ',')
			text->size--;
		write_bytes(text, "}\n", 2);
		ends[row] = text->size;
	}
	for (size_t i = 0; lines && i < part_count; i++)
		free(lines[i].starts);
	free(lines);
	return err ? err : (long)text->size;
}
