/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* Handlers of system calls that the load does not make, and an empty program on the same hook. */
#include <eunomia/syscall.h>

char LICENSE[] SEC("license") = "Dual BSD/GPL";

SEC("tp_btf/sys_exit")
int empty(void *ctx)
{
	return 0;
}

__u64 seen;

SYSCALL_EXIT(of_mkdir, mkdir, mkdirat)
{
	seen++;
}

SYSCALL_EXIT(of_unlink, unlink, unlinkat)
{
	seen++;
}
