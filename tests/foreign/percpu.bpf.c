// SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause)
/* Per-CPU counters: a hash by system call number, and an array of one slot. */
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

struct stat {
	__u64 calls;
	__u64 last_ns;
};

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_HASH);
	__uint(max_entries, 512);
	__type(key, __u32);
	__type(value, struct stat);
} by_syscall SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u64);
} total SEC(".maps");

SEC("raw_tp/sys_enter")
int count(struct bpf_raw_tracepoint_args *ctx)
{
	__u32 nr = ctx->args[1], zero = 0;
	struct stat *stat, new = {.calls = 1};
	__u64 *sum = bpf_map_lookup_elem(&total, &zero);

	if (sum)
		(*sum)++;
	stat = bpf_map_lookup_elem(&by_syscall, &nr);
	if (stat) {
		stat->calls++;
		stat->last_ns = bpf_ktime_get_ns();
	} else {
		bpf_map_update_elem(&by_syscall, &nr, &new, BPF_ANY);
	}
	return 0;
}

char LICENSE[] SEC("license") = "GPL";
