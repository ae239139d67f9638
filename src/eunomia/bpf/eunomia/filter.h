/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * The filters that all trackers share, in the kernel, before any other work. One word says which are on; user space
 * changes it while programs run. With none on, a check costs a load and a comparison.
 */
#ifndef EUNOMIA_FILTER_H
#define EUNOMIA_FILTER_H

#include <bpf/bpf_helpers.h>
#include <eunomia/types.h>
#include <eunomia/set.h>

struct eunomia_comm {
	char text[16];
};

EUNOMIA_SET(eunomia_pids, __u32, 1024);
EUNOMIA_SET(eunomia_uids, __u32, 1024);
EUNOMIA_SET(eunomia_comms, struct eunomia_comm, 1024);

/* A function, so that the verifier follows its branches once, and not the caller's code again for each of them. */
__attribute__((noinline, weak)) bool eunomia_passes(__u64 filter, __u64 cgroup)
{
	__u32 pid = bpf_get_current_pid_tgid() >> 32;

	if ((__u32)filter && pid == (__u32)filter)
		return false;
	if (filter & (EUNOMIA_IN_CGROUPS | EUNOMIA_NOT_IN_CGROUPS)) {
		bool member = bpf_map_lookup_elem(&eunomia_cgroups, &cgroup) != NULL;

		if (member != !!(filter & EUNOMIA_IN_CGROUPS))
			return false;
	}
	if ((filter & EUNOMIA_BY_PID) && !bpf_map_lookup_elem(&eunomia_pids, &pid))
		return false;
	if (filter & EUNOMIA_BY_UID) {
		__u32 uid = bpf_get_current_uid_gid();

		if (!bpf_map_lookup_elem(&eunomia_uids, &uid))
			return false;
	}
	if (filter & EUNOMIA_BY_COMM) {
		struct eunomia_comm comm = {};

		bpf_get_current_comm(&comm, sizeof(comm));
		if (!bpf_map_lookup_elem(&eunomia_comms, &comm))
			return false;
	}
	return true;
}

/* Whether events of the current task, which is in `cgroup`, are wanted. */
static __always_inline bool eunomia_wants(__u64 cgroup)
{
	__u64 filter = eunomia_filter;

	return !filter || eunomia_passes(filter, cgroup);
}

#endif
