// SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause)
/* raw_tp with bpf_ringbuf_output of a stack struct, filled by an inlined function; one event in `every`. */
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

struct syscall_record {
	__u64 ts;
	__s64 nr;
	__u32 pid;
	__u32 tid;
};

struct decoy {
	__u64 a, b, c;
};

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 1 << 20);
} calls SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct decoy);
} state SEC(".maps");

const volatile __u64 every = 100;

static __always_inline void fill(struct syscall_record *record, __s64 nr)
{
	__u64 id = bpf_get_current_pid_tgid();

	record->ts = bpf_ktime_get_ns();
	record->nr = nr;
	record->pid = id >> 32;
	record->tid = id;
}

SEC("raw_tracepoint/sys_enter")
int on_enter(struct bpf_raw_tracepoint_args *ctx)
{
	struct syscall_record record = {};
	__u32 zero = 0;
	struct decoy *seen = bpf_map_lookup_elem(&state, &zero);

	if (!seen)
		return 0;
	if (__sync_fetch_and_add(&seen->a, 1) % every)
		return 0;
	fill(&record, ctx->args[1]);
	bpf_ringbuf_output(&calls, &record, sizeof(record), 0);
	return 0;
}

char LICENSE[] SEC("license") = "GPL";
