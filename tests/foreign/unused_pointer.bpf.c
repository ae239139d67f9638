// SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause)
/* bpf2go's way to keep a struct in BTF: a global pointer that nobody uses. Two structs of one size. */
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

struct event {
	__u32 pid;
	__u8 comm[80];
	__u32 uid;
};

struct lookalike {
	__u32 words[22];
};

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 1 << 24);
} events SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 16);
	__type(key, __u32);
	__type(value, struct lookalike);
} seen SEC(".maps");

const struct event *unused __attribute__((unused));

SEC("tracepoint/syscalls/sys_enter_execve")
int on_execve(void *ctx)
{
	struct event *info;

	info = bpf_ringbuf_reserve(&events, sizeof(struct event), 0);
	if (!info)
		return 0;
	__builtin_memset(info, 0, sizeof(*info));
	info->pid = bpf_get_current_pid_tgid();
	info->uid = bpf_get_current_uid_gid();
	bpf_get_current_comm(&info->comm, sizeof(info->comm));
	bpf_ringbuf_submit(info, 0);
	return 0;
}

char __license[] SEC("license") = "Dual MIT/GPL";
