// SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause)
/* Its records wake nobody: whoever reads them has to look. */
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

const volatile __u32 target = 0;

struct event {
	__u32 pid;
	char comm[16];
};

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 4096);
	__type(value, struct event);
} events SEC(".maps");

SEC("tp/syscalls/sys_enter_getppid")
int on_call(void *ctx)
{
	__u32 pid = bpf_get_current_pid_tgid() >> 32;
	struct event *event;

	if (pid != target)
		return 0;
	event = bpf_ringbuf_reserve(&events, sizeof(*event), 0);
	if (!event)
		return 0;
	event->pid = pid;
	bpf_get_current_comm(event->comm, sizeof(event->comm));
	bpf_ringbuf_submit(event, BPF_RB_NO_WAKEUP);
	return 0;
}

char LICENSE[] SEC("license") = "GPL";
