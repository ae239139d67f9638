// SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause)
/* Two rings and a perf buffer, each with a struct of its own; two structs have one size. */
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

struct fork_event {
	__u32 parent;
	__u32 child;
	__u64 ts;
};

struct exit_event {
	__u64 ts;
	__u32 pid;
	__s32 code;
};

struct open_event {
	__u64 ts;
	__u32 pid;
	char comm[16];
	char name[64];
};

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 4096 * 64);
} forks SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 4096 * 64);
} exits SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERF_EVENT_ARRAY);
	__type(key, int);
	__type(value, int);
} opens SEC(".maps");

struct fork_args {
	__u64 common;
	char parent_comm[16];
	int parent;
	char child_comm[16];
	int child;
};

struct open_args {
	__u64 common;
	long nr, dfd;
	const char *name;
};

SEC("tp/sched/sched_process_fork")
int on_fork(void *ctx)
{
	struct fork_event *made = bpf_ringbuf_reserve(&forks, sizeof(*made), 0);

	if (!made)
		return 0;
	made->ts = bpf_ktime_get_ns();
	made->parent = bpf_get_current_pid_tgid() >> 32;
	made->child = 0;
	bpf_ringbuf_submit(made, 0);
	return 0;
}

SEC("tp/sched/sched_process_exit")
int on_exit(void *ctx)
{
	struct exit_event *gone = bpf_ringbuf_reserve(&exits, sizeof(*gone), 0);

	if (!gone)
		return 0;
	gone->ts = bpf_ktime_get_ns();
	gone->pid = bpf_get_current_pid_tgid() >> 32;
	gone->code = 0;
	bpf_ringbuf_submit(gone, 0);
	return 0;
}

SEC("tp/syscalls/sys_enter_openat")
int on_open(struct open_args *ctx)
{
	struct open_event e = {};

	e.ts = bpf_ktime_get_ns();
	e.pid = bpf_get_current_pid_tgid() >> 32;
	bpf_get_current_comm(e.comm, sizeof(e.comm));
	bpf_probe_read_user_str(e.name, sizeof(e.name), ctx->name);
	bpf_perf_event_output(ctx, &opens, BPF_F_CURRENT_CPU, &e, sizeof(e));
	return 0;
}

char LICENSE[] SEC("license") = "GPL";
