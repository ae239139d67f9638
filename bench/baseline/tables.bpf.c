// SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause)
/* A per-CPU hash as counters by key are kept in; bench/tables.py fills it. */
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

struct stat {
	__u64 calls, errors, total_ns, max_ns, last_seen;
	__u32 pid, state;
};

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_HASH);
	__uint(max_entries, 10000);
	__type(key, __u64);
	__type(value, struct stat);
} stats SEC(".maps");

SEC("tp/syscalls/sys_enter_getppid")
int count(void *ctx)
{
	__u64 key = 0;
	struct stat *stat = bpf_map_lookup_elem(&stats, &key);

	if (stat)
		stat->calls++;
	return 0;
}

char LICENSE[] SEC("license") = "GPL";
