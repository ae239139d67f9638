// SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause)
/* Records of two lengths in one ring, through one function that is told the ring and the length. */
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

struct started {
	__u32 kind;
	__u32 pid;
	char comm[16];
};

struct stopped {
	__u32 kind;
	__u32 pid;
	__u64 cpu_ns;
	__u64 ended_ns;
	__u64 flags;
};

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 1 << 18);
} records SEC(".maps");

static __noinline long emit(void *ring, void *record, __u32 size)
{
	return bpf_ringbuf_output(ring, record, size, 0);
}

SEC("tp/sched/sched_process_exec")
int on_exec(void *ctx)
{
	struct started it = {.kind = 1};

	it.pid = bpf_get_current_pid_tgid() >> 32;
	bpf_get_current_comm(it.comm, sizeof(it.comm));
	emit(&records, &it, sizeof(it));
	return 0;
}

SEC("tp/sched/sched_process_exit")
int on_exit(void *ctx)
{
	struct stopped it = {.kind = 2};

	it.pid = bpf_get_current_pid_tgid() >> 32;
	it.ended_ns = bpf_ktime_get_ns();
	emit(&records, &it, sizeof(it));
	return 0;
}

char LICENSE[] SEC("license") = "GPL";
