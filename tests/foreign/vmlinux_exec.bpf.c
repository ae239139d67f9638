// SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause)
/* What most people write: vmlinux.h from bpftool, CO-RE reads, the event one struct among thousands. */
#include "vmlinux.h"
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_core_read.h>
#include <bpf/bpf_tracing.h>

struct exec_info {
	u32 pid;
	u32 ppid;
	u64 start_ns;
	char comm[TASK_COMM_LEN];
};

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 256 * 1024);
} rb SEC(".maps");

SEC("tp_btf/sched_process_exec")
int BPF_PROG(on_exec, struct task_struct *p, pid_t old_pid, struct linux_binprm *bprm)
{
	struct task_struct *task = (struct task_struct *)bpf_get_current_task();
	struct exec_info *info = bpf_ringbuf_reserve(&rb, sizeof(*info), 0);

	if (!info)
		return 0;
	info->pid = BPF_CORE_READ(task, tgid);
	info->ppid = BPF_CORE_READ(task, real_parent, tgid);
	info->start_ns = BPF_CORE_READ(task, start_time);
	bpf_get_current_comm(info->comm, sizeof(info->comm));
	bpf_ringbuf_submit(info, 0);
	return 0;
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
