// SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause)
/* The tutorials' hello world: no events at all, only a global and bpf_printk. */
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

char LICENSE[] SEC("license") = "Dual BSD/GPL";

int my_pid = 0;

SEC("tp/syscalls/sys_enter_write")
int handle_tp(void *ctx)
{
	int pid = bpf_get_current_pid_tgid() >> 32;

	if (pid != my_pid)
		return 0;
	bpf_printk("write by %d", pid);
	return 0;
}
