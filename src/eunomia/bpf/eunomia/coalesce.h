/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * Coalescing: of events that are equal within a window of time the first is sent, the others are counted.
 *
 *	struct open_event { ...; COALESCED_FIELDS; };
 *	STREAM(open, struct open_event, 4 << 20);
 *	COALESCE(open, struct open_key, 16384);
 *	...
 *	struct coalesced equal = {};
 *
 *	if (coalesces(open)) {
 *		struct open_key key = {};	// all of it, padding too
 *		...				// what makes two events equal
 *		if (coalesce(open, &equal, &key, event.time))
 *			return 0;		// counted
 *	}
 *	coalesced_fields(&event, &equal);
 *	coalesced_sent(&equal, stream_output(open, &event, sizeof(event)));
 *
 * It is off unless user space says otherwise, and then nothing of it is left when the verifier is done. User space
 * ends a window by putting an empty table in the place of the full one; it reads that when no program can be using
 * it, and makes one row of each entry that has counted anything: the record again that was sent first.
 */
#ifndef EUNOMIA_COALESCE_H
#define EUNOMIA_COALESCE_H

#include <bpf/bpf_helpers.h>
#include <eunomia/types.h>
#include <eunomia/stream.h>

/* At the end of an event's struct. Without coalescing no row shows them. */
#define COALESCED_FIELDS \
	__u64 coalesced_id eunomia_coalesced doc("of the record, among those of its window"); \
	__u64 count eunomia_coalesced doc("how many equal events the row stands for"); \
	time_ns_t first hidden eunomia_coalesced doc("when the first of the equal events in its window happened")
#define eunomia_coalesced __attribute__((btf_decl_tag("coalesced")))

/* What is known of the events of a window that are equal. */
struct eunomia_equal {
	__u64 count;		/* of those that were not sent */
	__u64 first, last;	/* when the first and the last of them all happened */
	__u64 id;		/* of the record that stands for them, or one of the two below */
};

#define EUNOMIA_UNSENT	0	/* the first is still being made */
#define EUNOMIA_REFUSED	(~0ULL)	/* the ring had no room for it */

/* An event's part in it. `id` is 0 where the table has no room: such an event stands for itself. */
struct coalesced {
	struct eunomia_equal *equal;
	__u64 id;
};

#define COALESCE(name_, key_, entries_) \
	const volatile bool eunomia_coalesce_##name_ = false; \
	struct { \
		__uint(type, BPF_MAP_TYPE_HASH); \
		__uint(max_entries, entries_); \
		__type(key, key_); \
		__type(value, struct eunomia_equal); \
	} equal_##name_##_a SEC(".maps"), equal_##name_##_b SEC(".maps"); \
	struct { \
		__uint(type, BPF_MAP_TYPE_ARRAY_OF_MAPS); \
		__uint(max_entries, 1); \
		__type(key, __u32); \
		__array(values, struct { \
			__uint(type, BPF_MAP_TYPE_HASH); \
			__uint(max_entries, 1); \
			__type(key, key_); \
			__type(value, struct eunomia_equal); \
		}); \
	} equal_##name_ SEC(".maps") = { .values = { [0] = (void *)&equal_##name_##_a } }

__u64 eunomia_last_id;

/*
 * Chosen by user space at random: who makes up names cannot make two that are taken for one. Never 0.
 */
const volatile __u64 eunomia_seed = 1;

/* Takes a word into a hash that begins with eunomia_seed. */
static __always_inline __u64 coalesce_mix(__u64 hash, __u64 word)
{
	hash = (hash ^ word) * 0x9e3779b97f4a7c15ULL;
	return hash ^ hash >> 29;
}

static __always_inline bool eunomia_coalesce(void *window, struct coalesced *ret, const void *key, __u64 now)
{
	struct eunomia_equal *equal, begun = { .first = now, .last = now };
	__u32 zero = 0;
	void *table = bpf_map_lookup_elem(window, &zero);

	if (!table)
		return false;
	equal = bpf_map_lookup_elem(table, key);
	if (!equal) {
		/* fails where the table is full, or another CPU was quicker */
		bool ours = !bpf_map_update_elem(table, key, &begun, BPF_NOEXIST);

		equal = bpf_map_lookup_elem(table, key);
		if (!equal)
			return false;
		if (ours)
			goto send;
	}
	if (equal->id != EUNOMIA_REFUSED) {
		__sync_fetch_and_add(&equal->count, 1);
		equal->last = now;
		return true;
	}
send:
	ret->equal = equal;
	/* by the seed they differ from those of an object that this one replaces, which may still run */
	ret->id = eunomia_seed + __sync_fetch_and_add(&eunomia_last_id, 1);
	return false;
}

/* Whether equal events of the stream are to be counted; false makes the verifier remove what depends on it. */
#define coalesces(name_) eunomia_coalesce_##name_

/* Counts an event behind one that is equal, and returns true; else fills `ret`, and the event is to be sent. */
#define coalesce(name_, ret, key, now) eunomia_coalesce(&equal_##name_, ret, key, now)

/* Fills COALESCED_FIELDS of an event that is sent, once its time is known. */
#define coalesced_fields(event, equal_) \
	do { \
		(event)->coalesced_id = (equal_)->id; \
		(event)->count = 1; \
		(event)->first = (event)->time; \
	} while (0)

/* Says what became of the record: 0, or what stream_output() returned. */
static __always_inline void coalesced_sent(const struct coalesced *coalesced, long err)
{
	if (!coalesced->equal)
		return;
	if (!err)
		coalesced->equal->id = coalesced->id;
	else	/* another CPU's may have been sent since */
		__sync_val_compare_and_swap(&coalesced->equal->id, EUNOMIA_UNSENT, EUNOMIA_REFUSED);
}

#endif
