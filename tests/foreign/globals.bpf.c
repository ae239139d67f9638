// SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause)
/* Counters in .bss and .data, settings in .rodata, no map at all. */
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

const volatile __u32 only_pid = 0;
const volatile _Bool verbose = 0;
const volatile char wanted[16] = "";

__u64 calls = 0;
__u64 by_uid[8] = {};
__s32 last_pid = -1;

SEC("tp/syscalls/sys_enter_getppid")
int on_getppid(void *ctx)
{
	__u32 pid = bpf_get_current_pid_tgid() >> 32;

	if (only_pid && pid != only_pid)
		return 0;
	__sync_fetch_and_add(&calls, 1);
	__sync_fetch_and_add(&by_uid[bpf_get_current_uid_gid() & 7], 1);
	last_pid = pid;
	return 0;
}

char LICENSE[] SEC("license") = "GPL";
