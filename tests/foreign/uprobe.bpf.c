// SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause)
/* malloc in libc, entry and return matched by thread, the size asked for sent through a ring. */
#include <linux/bpf.h>
#include <linux/ptrace.h>
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_tracing.h>

typedef struct {
	__u64 size;
	__u64 address;
	__u64 latency;
	__u32 tid;
} alloc_t;

struct entry {
	__u64 at;
	__u64 size;
};

struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 4096);
	__type(key, __u32);
	__type(value, struct entry);
} inflight SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 1 << 18);
} allocs SEC(".maps");

const volatile __u32 target_pid = 0;
const volatile __u64 min_size = 0;

SEC("uprobe/libc.so.6:malloc")
int BPF_KPROBE(malloc_enter, unsigned long size)
{
	__u64 id = bpf_get_current_pid_tgid();
	__u32 tid = id;
	struct entry entry = {.at = bpf_ktime_get_ns(), .size = size};

	if ((target_pid && id >> 32 != target_pid) || size < min_size)
		return 0;
	bpf_map_update_elem(&inflight, &tid, &entry, BPF_ANY);
	return 0;
}

SEC("uretprobe/libc.so.6:malloc")
int BPF_KRETPROBE(malloc_exit, void *address)
{
	__u32 tid = bpf_get_current_pid_tgid();
	struct entry *entry = bpf_map_lookup_elem(&inflight, &tid);
	alloc_t *out;

	if (!entry)
		return 0;
	out = bpf_ringbuf_reserve(&allocs, sizeof(alloc_t), 0);
	if (out) {
		out->size = entry->size;
		out->address = (__u64)address;
		out->latency = bpf_ktime_get_ns() - entry->at;
		out->tid = tid;
		bpf_ringbuf_submit(out, 0);
	}
	bpf_map_delete_elem(&inflight, &tid);
	return 0;
}

char LICENSE[] SEC("license") = "GPL";
