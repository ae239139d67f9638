// SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause)
/* The process in a struct of its own, beside that of another; and a map whose key has both ids in one number. */
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

struct who {
	__u32 pid, tid, uid;
	char comm[16];
};

struct event {
	struct who parent;
	struct who process;
};

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 1 << 16);
	__type(value, struct event);
} events SEC(".maps");

/* the kernel calls a thread's id pid */
struct called {
	__u32 pid;
	__u32 uid;
};

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 1 << 16);
	__type(value, struct called);
} threads SEC(".maps");

struct key {
	__u64 pid_tgid;
};

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 1024);
	__type(key, struct key);
	__type(value, __u64);
} calls SEC(".maps");

SEC("tp/syscalls/sys_enter_getppid")
int on_getppid(void *ctx)
{
	struct key key = { bpf_get_current_pid_tgid() };
	struct called called = { key.pid_tgid, bpf_get_current_uid_gid() };
	struct event *e;
	__u64 one = 1, *count;

	count = bpf_map_lookup_elem(&calls, &key);
	if (count)
		__sync_fetch_and_add(count, 1);
	else
		bpf_map_update_elem(&calls, &key, &one, BPF_ANY);
	bpf_ringbuf_output(&threads, &called, sizeof(called), 0);
	e = bpf_ringbuf_reserve(&events, sizeof(*e), 0);
	if (!e)
		return 0;
	__builtin_memset(e, 0, sizeof(*e));
	e->parent.pid = 1;
	e->process.pid = key.pid_tgid >> 32;
	e->process.tid = key.pid_tgid;
	e->process.uid = bpf_get_current_uid_gid();
	bpf_get_current_comm(e->process.comm, sizeof(e->process.comm));
	bpf_ringbuf_submit(e, 0);
	return 0;
}

char LICENSE[] SEC("license") = "GPL";
