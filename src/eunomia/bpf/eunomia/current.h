/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * Kernel structs whose members a program reads as it would any struct's, which costs the workload much less than
 * bpf_probe_read_kernel(): the current task, and any that an address is known of.
 *
 * bpf_get_current_task_btf() does for the task as well. But whenever a pointer is read from its result, which is trusted,
 * Linux 6.4 and later search all of the kernel's BTF by name, four times, to learn whether that pointer can be trusted
 * too: more than a millisecond for each in the source. Nothing is passed to the kernel here, so no trust is needed, and
 * bpf_rdonly_cast() (Linux 6.2) takes it away; to the program it is no call at all.
 */
#ifndef EUNOMIA_CURRENT_H
#define EUNOMIA_CURRENT_H

#include <eunomia/kernel.h>
#include <bpf/bpf_helpers.h>

/* The kernel's ids of its structs, set by user space if there is bpf_rdonly_cast(), which it calls here then; else 0. */
const volatile __u32 eunomia_type_task_struct = 0;
const volatile __u32 eunomia_type_dentry = 0;
const volatile __u32 eunomia_type_file = 0;

static const void *(*const eunomia_rdonly_cast)(const void *object, __u64 type) = (void *)0x10000;

/* Whether kernel_struct() can be used of a type; where it is false the verifier removes what depends on it. */
#define kernel_has(type_) (eunomia_type_##type_ != 0)

/* What is at an address, as a struct of the kernel's; all zeros where nothing can be read. */
#define kernel_struct(type_, address_) \
	((const struct type_ *)eunomia_rdonly_cast((const void *)(address_), eunomia_type_##type_))

static __always_inline const struct task_struct *task_current(void)
{
	const struct task_struct *task = bpf_get_current_task_btf();

	return kernel_has(task_struct) ? kernel_struct(task_struct, task) : task;
}

#endif
