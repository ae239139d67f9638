/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* Sets that filters look into, the first of which all objects share. */
#ifndef EUNOMIA_SET_H
#define EUNOMIA_SET_H

#include <bpf/bpf_helpers.h>
#include <eunomia/types.h>

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
