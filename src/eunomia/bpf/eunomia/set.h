/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* Which filters are on, and the sets that they look into, the first of which all objects share. */
#ifndef EUNOMIA_SET_H
#define EUNOMIA_SET_H

#include <bpf/bpf_helpers.h>
#include <eunomia/types.h>

/* The lower half is a thread group whose events never pass, 0 for none; the upper half says which filters are on. */
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
 * The cgroups that --container and its kin speak of, kept up to date while containers come and go. Where nothing
 * passes but what is in it, cgroups.bpf.c takes in each new cgroup before anybody can be there, and user space lets
 * it go when it knows whose it is.
 */
EUNOMIA_SET(eunomia_cgroups, __u64, 65536);

#endif
