/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* What does a system call cost that nobody asked for, when an empty program hangs on another? */
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

char LICENSE[] SEC("license") = "Dual BSD/GPL";

SEC("tp/syscalls/sys_enter_execve")
int tp_enter(void *ctx)
{
	return 0;
}

SEC("tp/syscalls/sys_exit_execve")
int tp_exit(void *ctx)
{
	return 0;
}

SEC("raw_tp/sys_exit")
int raw_exit(void *ctx)
{
	return 0;
}
