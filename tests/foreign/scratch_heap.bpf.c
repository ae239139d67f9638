// SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause)
/* An event too big for the stack: built in a per-CPU array, only its used part sent. As execsnoop does. */
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

#define LIMIT 4096

struct event {
	__u32 pid;
	__u32 length;
	char comm[16];
	char path[LIMIT];
};

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct event);
} heap SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERF_EVENT_ARRAY);
	__uint(key_size, sizeof(__u32));
	__uint(value_size, sizeof(__u32));
} events SEC(".maps");

struct open_args {
	__u64 common;
	long nr, dfd;
	const char *name;
};

SEC("tp/syscalls/sys_enter_openat")
int on_open(struct open_args *ctx)
{
	__u32 zero = 0;
	struct event *e = bpf_map_lookup_elem(&heap, &zero);
	long length;

	if (!e)
		return 0;
	length = bpf_probe_read_user_str(e->path, sizeof(e->path), ctx->name);
	if (length < 0 || length > LIMIT)
		return 0;
	e->pid = bpf_get_current_pid_tgid() >> 32;
	e->length = length;
	bpf_get_current_comm(e->comm, sizeof(e->comm));
	bpf_perf_event_output(ctx, &events, BPF_F_CURRENT_CPU, e, (sizeof(*e) - LIMIT + length) & 8191);
	return 0;
}

char LICENSE[] SEC("license") = "GPL";
