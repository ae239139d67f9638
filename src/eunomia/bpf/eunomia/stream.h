/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * Streams: rings with a count of all records, delivered or refused.
 *
 *	STREAM(open, struct open_event, 4 << 20);
 *	...
 *	stream_output(open, &event, sizeof(event));
 */
#ifndef EUNOMIA_STREAM_H
#define EUNOMIA_STREAM_H

#include <bpf/bpf_helpers.h>
#include <eunomia/types.h>

/* Counts of the records of one stream, on one CPU. */
struct eunomia_ledger {
	__u64 emitted;
	__u64 lost;
};

/*
 * The consumer sets it before it sleeps. The next writer clears it and wakes the consumer, once:
 * a wakeup for each event costs ten times as much as the event.
 */
volatile __u32 eunomia_armed SEC(".data.eunomia") = 0;

#define LEDGER(name_) \
	struct { \
		__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY); \
		__uint(max_entries, 1); \
		__type(key, __u32); \
		__type(value, struct eunomia_ledger); \
	} ledger_##name_ SEC(".maps")

/* The consumer sets eunomia_unread_NAME if it does not read the stream: its ring would fill, and wake it. */
#define STREAM(name_, struct_, bytes_) \
	const volatile bool eunomia_unread_##name_ = false; \
	struct { \
		__uint(type, BPF_MAP_TYPE_RINGBUF); \
		__uint(max_entries, bytes_); \
		__type(value, struct_); \
	} name_ SEC(".maps"); \
	LEDGER(name_)

/*
 * A table that is emptied at each interval: programs write into the map in slot 0, the consumer puts a
 * fresh one there and reads the old one when no program can be using it any more, so no count is torn.
 */
#define TABLE(name_, key_, value_, entries_) \
	struct name_##_inner { \
		__uint(type, BPF_MAP_TYPE_HASH); \
		__uint(max_entries, entries_); \
		__type(key, key_); \
		__type(value, value_); \
	} name_##_a SEC(".maps"), name_##_b SEC(".maps"); \
	struct { \
		__uint(type, BPF_MAP_TYPE_ARRAY_OF_MAPS); \
		__uint(max_entries, 1); \
		__type(key, __u32); \
		__array(values, struct name_##_inner); \
	} name_ SEC(".maps") = { .values = { [0] = &name_##_a } }; \
	LEDGER(name_)

/*
 * A ring whose records are not shown: from them, and from lifecycle events of containers, a tracker's `derive`
 * makes the rows of its streams in Python. Written by raw_output().
 */
#define RAW(name_, struct_, bytes_) STREAM(raw_##name_, struct_, bytes_)

static __always_inline __u64 eunomia_wakeup(void)
{
	if (!eunomia_armed)
		return BPF_RB_NO_WAKEUP;
	eunomia_armed = 0;
	return BPF_RB_FORCE_WAKEUP;
}

static __always_inline void eunomia_count(void *ledger, bool lost)
{
	__u32 zero = 0;
	struct eunomia_ledger *count = bpf_map_lookup_elem(ledger, &zero);

	if (!count)
		return;
	/* atomic because an interrupt may come in between */
	if (lost)
		__sync_fetch_and_add(&count->lost, 1);
	else
		__sync_fetch_and_add(&count->emitted, 1);
}

static __always_inline long eunomia_output(void *ring, void *ledger, void *record, __u64 size)
{
	long err = bpf_ringbuf_output(ring, record, size, eunomia_wakeup());

	eunomia_count(ledger, err != 0);
	return err;
}

/* Copies a record into the stream's ring and counts it; returns 0 or a negative errno. */
#define stream_output(name_, record, size) \
	(eunomia_unread_##name_ ? 0 : eunomia_output(&name_, &ledger_##name_, record, size))

/* The same for a RAW() ring. */
#define raw_output(name_, record, size) stream_output(raw_##name_, record, size)

/* Counts an event of which no record could be built as lost. */
#define stream_lost(name_) eunomia_count(&ledger_##name_, true)

#endif
