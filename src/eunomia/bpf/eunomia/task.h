/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* The fields of the current task, with which its events begin. */
#ifndef EUNOMIA_TASK_H
#define EUNOMIA_TASK_H

#include <eunomia/probe.h>
#include <eunomia/current.h>

#define TASK_FIELDS \
	time_ns_t time doc("when it happened"); \
	cgroup_id_t cgroup_id hidden doc("cgroup of the task: the inode number of its directory"); \
	pid_t pid doc("process id, as the host sees it"); \
	pid_t tid doc("thread id, as the host sees it"); \
	uid_t uid doc("real user id, as the host sees it"); \
	char comm[16] doc("command name")

#define PARENT_FIELDS \
	pid_t ppid doc("process id of the parent")

#define EXEC_ID_FIELDS \
	exec_id_t exec_id hidden doc("unique name of the process, as pids are reused"); \
	exec_id_t parent_exec_id hidden doc("the parent")

#define NAMESPACE_FIELDS \
	__u32 mnt_ns hidden doc("mount namespace"); \
	__u32 pid_ns hidden doc("PID namespace"); \
	__u32 net_ns hidden doc("network namespace"); \
	__u32 user_ns hidden doc("user namespace"); \
	__u32 uts_ns hidden doc("UTS namespace"); \
	__u32 ipc_ns hidden doc("IPC namespace"); \
	__u32 cgroup_ns hidden doc("cgroup namespace")

/* Fills TASK_FIELDS with the current task's. */
#define task_fields(event, cgroup) \
	do { \
		__u64 ids_ = bpf_get_current_pid_tgid(); \
		(event)->time = bpf_ktime_get_ns(); \
		(event)->cgroup_id = cgroup; \
		(event)->pid = ids_ >> 32; \
		(event)->tid = ids_; \
		(event)->uid = bpf_get_current_uid_gid(); \
		bpf_get_current_comm((event)->comm, sizeof((event)->comm)); \
	} while (0)

#define parent_fields(event, task) \
	do { \
		(event)->ppid = BPF_CORE_READ(task, real_parent, tgid); \
	} while (0)

/* When a thread's process began, which is when its first thread did, in monotonic nanoseconds. */
static __always_inline __u64 task_start(const struct task_struct *task)
{
	return BPF_CORE_READ(task, group_leader, start_time);
}

/* Below, `task` is task_current(). */

/* After task_fields() and parent_fields(), of which it uses the pids. */
#define exec_id_fields(event, task) \
	do { \
		const struct task_struct *parent_ = BPF_CORE_READ(task, real_parent); \
		(event)->exec_id.start = (task)->pid == (task)->tgid ? (task)->start_time : task_start(task); \
		(event)->exec_id.pid = (event)->pid; \
		(event)->parent_exec_id.start = task_start(parent_); \
		(event)->parent_exec_id.pid = (event)->ppid; \
	} while (0)

static __always_inline __u32 task_pid_ns(const struct task_struct *task)
{
	const struct pid *pid = BPF_CORE_READ(task, thread_pid);
	__u32 level = BPF_CORE_READ(pid, level);
	struct pid_namespace *ns = NULL;

	/* numbers[] has level + 1 entries: the innermost namespace is the last */
	bpf_probe_read_kernel(&ns, sizeof(ns), (const void *)pid + bpf_core_field_offset(struct pid, numbers) +
			      level * bpf_core_type_size(struct upid) + bpf_core_field_offset(struct upid, ns));
	return BPF_CORE_READ(ns, ns.inum);
}

#define namespace_fields(event, task) \
	do { \
		const struct nsproxy *proxy_ = (task)->nsproxy; \
		(event)->pid_ns = task_pid_ns(task); \
		(event)->user_ns = BPF_CORE_READ(task, cred, user_ns, ns.inum); \
		(event)->mnt_ns = proxy_->mnt_ns->ns.inum; \
		(event)->net_ns = proxy_->net_ns->ns.inum; \
		(event)->uts_ns = proxy_->uts_ns->ns.inum; \
		(event)->ipc_ns = proxy_->ipc_ns->ns.inum; \
		(event)->cgroup_ns = proxy_->cgroup_ns->ns.inum; \
	} while (0)

#endif
