/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* Which filters are on, and their sets; all objects share the set of cgroups. */
#ifndef EUNOMIA_SET_H
#define EUNOMIA_SET_H

#include <bpf/bpf_helpers.h>
#include <eunomia/types.h>

/* The lower half is a process id of which events never pass, 0 for none; the upper half has a bit for each filter. */
volatile __u64 eunomia_filter SEC(".data.eunomia.f") = 0;

#define EUNOMIA_BY_PID		(1ULL << 32)
#define EUNOMIA_BY_UID		(1ULL << 33)
#define EUNOMIA_BY_COMM		(1ULL << 34)
#define EUNOMIA_IN_CGROUPS	(1ULL << 35)	/* only tasks in a cgroup of the set */
#define EUNOMIA_NOT_IN_CGROUPS	(1ULL << 36)	/* only tasks in none of them */

#define EUNOMIA_SET(name_, key_, entries_) \
	struct { \
		__uint(type, BPF_MAP_TYPE_HASH); \
		__uint(max_entries, entries_); \
		__uint(map_flags, BPF_F_NO_PREALLOC); \
		__type(key, key_); \
		__type(value, __u8); \
	} name_ SEC(".maps")

/*
 * The cgroups selected by --container and similar options, updated while containers come and go. If only these
 * pass, cgroups.bpf.c adds each new cgroup before a process can be in it, and user space removes it when it knows
 * its container.
 */
EUNOMIA_SET(eunomia_cgroups, __u64, 65536);

#endif
