// SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause)
/* Samples of the CPU clock with kernel stacks, counted by stack. */
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

struct stack_key {
	__u32 pid;
	__s32 kernel_stack;
	char comm[16];
};

struct {
	__uint(type, BPF_MAP_TYPE_STACK_TRACE);
	__uint(key_size, sizeof(__u32));
	__uint(value_size, 127 * sizeof(__u64));
	__uint(max_entries, 2048);
} stacks SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 2048);
	__type(key, struct stack_key);
	__type(value, __u64);
} counts SEC(".maps");

SEC("perf_event")
int sample(void *ctx)
{
	struct stack_key key = {};
	__u64 zero = 0, *count;

	key.pid = bpf_get_current_pid_tgid() >> 32;
	key.kernel_stack = bpf_get_stackid(ctx, &stacks, 0);
	bpf_get_current_comm(key.comm, sizeof(key.comm));
	bpf_map_update_elem(&counts, &key, &zero, BPF_NOEXIST);
	count = bpf_map_lookup_elem(&counts, &key);
	if (count)
		__sync_fetch_and_add(count, 1);
	return 0;
}

char LICENSE[] SEC("license") = "GPL";
