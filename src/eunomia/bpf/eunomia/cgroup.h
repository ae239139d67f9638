/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * The cgroup of a task, on any host: bpf_get_current_cgroup_id() supports only v2, where old runtimes
 * make no cgroups. On hosts with v2 the verifier removes the rest.
 */
#ifndef EUNOMIA_CGROUP_H
#define EUNOMIA_CGROUP_H

#include <bpf/bpf_helpers.h>
#include <bpf/bpf_core_read.h>
#include <eunomia/current.h>
#include <eunomia/kernel.h>

/* If containers are in v1 only: the controller that separates them, enum cgroup_subsys_id plus 1. */
const volatile __u32 eunomia_subsystem = 0;

static __always_inline __u64 eunomia_cgroup_of(const struct task_struct *task)
{
	const struct css_set *set = BPF_CORE_READ(task, cgroups);
	const struct cgroup_subsys_state *state = NULL;

	if (!eunomia_subsystem)
		return BPF_CORE_READ(set, dfl_cgrp, kn, id);
	bpf_probe_read_kernel(&state, sizeof(state), (const void *)set +
			      bpf_core_field_offset(struct css_set, subsys) +
			      (eunomia_subsystem - 1) * sizeof(state));
	return BPF_CORE_READ(state, cgroup, kn, id);
}

/* The current task's: what bpf_get_current_cgroup_id() returns, without a call and a lock. */
static __always_inline __u64 eunomia_cgroup(void)
{
	if (!eunomia_subsystem)
		return task_current()->cgroups->dfl_cgrp->kn->id;
	return eunomia_cgroup_of((const struct task_struct *)bpf_get_current_task());
}

#endif
