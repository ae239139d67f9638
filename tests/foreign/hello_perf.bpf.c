// SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause)
/* A struct on the stack through a perf buffer. */
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

struct data_t {
	__u32 pid;
	__u32 uid;
	__u64 ts;
	char comm[16];
	char message[12];
};

struct {
	__uint(type, BPF_MAP_TYPE_PERF_EVENT_ARRAY);
	__uint(key_size, sizeof(__u32));
	__uint(value_size, sizeof(__u32));
} output SEC(".maps");

SEC("tracepoint/syscalls/sys_enter_execve")
int hello(void *ctx)
{
	struct data_t data = {.message = "Hello World"};

	data.pid = bpf_get_current_pid_tgid() >> 32;
	data.uid = bpf_get_current_uid_gid();
	data.ts = bpf_ktime_get_ns();
	bpf_get_current_comm(&data.comm, sizeof(data.comm));
	bpf_perf_event_output(ctx, &output, BPF_F_CURRENT_CPU, &data, sizeof(data));
	return 0;
}

char LICENSE[] SEC("license") = "GPL";
