/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * The filters that all trackers share, in the kernel, ahead of any other work. A filter that is off
 * is a constant of .rodata: the verifier removes its code, and it costs nothing.
 */
#ifndef EUNOMIA_FILTER_H
#define EUNOMIA_FILTER_H

#include <bpf/bpf_helpers.h>
#include <eunomia/types.h>
#include <eunomia/set.h>

const volatile __u32 eunomia_self = 0;		/* thread group never to be traced */
const volatile bool eunomia_by_pid = false;
const volatile bool eunomia_by_uid = false;
const volatile bool eunomia_by_comm = false;
/* 1: only cgroups in the set, 2: only cgroups that are not */
const volatile __u32 eunomia_by_cgroup = 0;

struct eunomia_comm {
	char text[16];
};

EUNOMIA_SET(eunomia_pids, __u32, 1024);
EUNOMIA_SET(eunomia_uids, __u32, 1024);
EUNOMIA_SET(eunomia_comms, struct eunomia_comm, 1024);

/* Whether the current task, which is in `cgroup`, is one to look at. */
static __always_inline bool eunomia_wants(__u64 cgroup)
{
	__u32 pid = bpf_get_current_pid_tgid() >> 32;

	if (eunomia_self && pid == eunomia_self)
		return false;
	if (eunomia_by_cgroup) {
		bool member = bpf_map_lookup_elem(&eunomia_cgroups, &cgroup) != NULL;

		if (member != (eunomia_by_cgroup == 1))
			return false;
	}
	if (eunomia_by_pid && !bpf_map_lookup_elem(&eunomia_pids, &pid))
		return false;
	if (eunomia_by_uid) {
		__u32 uid = bpf_get_current_uid_gid();

		if (!bpf_map_lookup_elem(&eunomia_uids, &uid))
			return false;
	}
	if (eunomia_by_comm) {
		struct eunomia_comm comm = {};

		bpf_get_current_comm(&comm, sizeof(comm));
		if (!bpf_map_lookup_elem(&eunomia_comms, &comm))
			return false;
	}
	return true;
}

#endif
