// SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause)
/* Powers of two three ways: an array map of slots, a struct of slots in a hash, a struct of slots in .bss. */
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

#define MAX_SLOTS 27

struct hist {
	__u32 slots[MAX_SLOTS];
};

struct hist global_hist = {};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 64);
	__type(key, __u32);
	__type(value, __u64);
} dist SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 1024);
	__type(key, __u32);
	__type(value, struct hist);
} hists SEC(".maps");

static struct hist empty;

static __u32 log2l(__u64 v)
{
	__u32 r = 0;

	for (int i = 0; i < 63 && v > 1; i++) {
		v >>= 1;
		r++;
	}
	return r;
}

struct write_args {
	__u64 common;
	long nr;
	unsigned long fd, buf, count;
};

SEC("tp/syscalls/sys_enter_write")
int on_write(struct write_args *ctx)
{
	__u32 slot = log2l(ctx->count), key = slot, pid = bpf_get_current_pid_tgid() >> 32;
	struct hist *hist;
	__u64 *count;

	count = bpf_map_lookup_elem(&dist, &key);
	if (count)
		__sync_fetch_and_add(count, 1);
	if (slot >= MAX_SLOTS)
		slot = MAX_SLOTS - 1;
	__sync_fetch_and_add(&global_hist.slots[slot], 1);
	bpf_map_update_elem(&hists, &pid, &empty, BPF_NOEXIST);
	hist = bpf_map_lookup_elem(&hists, &pid);
	if (hist)
		__sync_fetch_and_add(&hist->slots[slot], 1);
	return 0;
}

char LICENSE[] SEC("license") = "GPL";
