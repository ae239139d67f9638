/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * When a system call began. One program of Eunomia's own writes it down for all handlers, for the calls that these
 * want, and it runs only while an object that includes this does.
 */
#ifndef EUNOMIA_SYSCALL_TIME_H
#define EUNOMIA_SYSCALL_TIME_H

#include <eunomia/syscall.h>

struct eunomia_begun {
	__u64 time;	/* bpf_ktime_get_ns() */
	__u64 syscall;	/* as in syscall_t; known to SYSCALL_ANY_EXIT() alone */
	__u64 read;	/* by which readers: it is of this call only for those that have not read it yet */
};

/* Shared: user space puts its own in the place of this one. */
struct {
	__uint(type, BPF_MAP_TYPE_TASK_STORAGE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, int);
	__type(value, struct eunomia_begun);
} eunomia_begun SEC(".maps");

/* Whether this object asks for times at all: `--set latency=false` leaves one hook of two to pay for. */
const volatile bool latency doc("whether calls are timed") = true;

/* Which of the readers this object is: a bit. */
const volatile __u64 eunomia_reader = 0;

/* The start of a call that ends; NULL if it was not recorded, or was read already. */
static __always_inline const struct eunomia_begun *syscall_beginning(const struct syscall *call)
{
	struct eunomia_begun *begun;

	if (!latency)
		return NULL;
	begun = bpf_task_storage_get(&eunomia_begun, call->task, 0, 0);
	/* refused by seccomp, or under way when we came: what is there is of an earlier call */
	if (!begun || begun->read & eunomia_reader)
		return NULL;
	begun->read |= eunomia_reader;
	return begun;
}

/* The start time of a call that ends; 0 if it was not recorded, or was read already. */
static __always_inline __u64 syscall_begun(const struct syscall *call)
{
	const struct eunomia_begun *begun = syscall_beginning(call);

	return begun ? begun->time : 0;
}

#endif
