// SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause)
/*
 * Which containers come and go, and how do they end?
 *
 * The kernel knows no containers: it tells of first programs, of their ends, of kills for want of memory and of
 * cgroups that freeze. What that means for which container is decided in life.py, with what the runtimes write.
 */
#include <eunomia/types.h>
#include <eunomia/kernel.h>
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_core_read.h>
#include <bpf/bpf_tracing.h>
#include <eunomia/cgroup.h>
#include <eunomia/cgroup_record.h>
#include <eunomia/hook.h>
#include <eunomia/stream.h>

/* No <eunomia/probe.h>: rows are chosen when it is known which container they are about. */
char LICENSE[] SEC("license") = "Dual BSD/GPL";

const volatile __s32 eunomia_hierarchy = 0;	/* the one whose cgroups are told of; 0 is v2 */

#define GROUP_EXIT 4		/* SIGNAL_GROUP_EXIT, include/linux/sched/signal.h */

enum sign {
	EXECUTED = 1,	/* the first program in a cgroup since it was made */
	ENDED,		/* of a process that such an exec made, or that user space named */
	OUT_OF_MEMORY,	/* a process that ended because the kernel chose it */
	FROZEN,
	THAWED,
	COMMANDED,	/* runc or crun has ended: it may have paused a container, of which v1 does not tell */
	KILLED,		/* a process of a cgroup that was frozen, which leaves that state only to end */
};

struct sign_event {
	time_ns_t time;
	cgroup_id_t cgroup_id;
	__u64 start;	/* of the process, as /proc/PID/stat has it but in nanoseconds */
	__u32 sign;
	pid_t pid;
	__s32 exit_code;
	signal_t signal;
};

RAW(sign, struct sign_event, 256 * 1024);

/* Cgroups that were made, or whose first process has ended, and whose next first program was not executed yet. */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 8192);
	__type(key, __u64);
	__type(value, __u8);
} fresh SEC(".maps");

/* Processes whose end is told, and the cgroup that each stands for; user space adds those that ran before. */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 16384);
	__type(key, __u32);
	__type(value, __u64);
} firsts SEC(".maps");

/* When the kernel chose a process, in its need for memory; by the thread that it named, then by the process. */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 1024);
	__type(key, __u32);
	__type(value, __u64);
} victims SEC(".maps");

/* /sys/kernel/tracing/events/oom/mark_victim/format begins so from 4.19 to 6.18; pid is a thread's. */
struct victim_record {
	__u64 common;
	__s32 pid;
};

/*
 * Whether a task sees what its parent sees. What runtimes execute in a container's cgroup before its program does:
 * runc's first part runs a copy of itself, before or after it was put there, and hooks are children of its init.
 */
static __always_inline bool is_like_parent(struct task_struct *task)
{
	struct task_struct *parent = BPF_CORE_READ(task, real_parent);

	return BPF_CORE_READ(task, nsproxy, mnt_ns) == BPF_CORE_READ(parent, nsproxy, mnt_ns) &&
	       BPF_CORE_READ(task, thread_pid, level) == BPF_CORE_READ(parent, thread_pid, level);
}

HANDLER("raw_tp/sched_process_exec", on_exec, struct task_struct *task)
{
	__u64 cgroup = eunomia_cgroup();
	struct sign_event event = {};

	if (!bpf_map_lookup_elem(&fresh, &cgroup) || is_like_parent(task))
		return;
	/* one alone can take it out */
	if (bpf_map_delete_elem(&fresh, &cgroup))
		return;
	event.time = bpf_ktime_get_ns();
	event.cgroup_id = cgroup;
	event.sign = EXECUTED;
	event.pid = bpf_get_current_pid_tgid() >> 32;
	event.start = BPF_CORE_READ(task, group_leader, start_time);
	bpf_map_update_elem(&firsts, &event.pid, &cgroup, BPF_ANY);
	raw_output(sign, &event, sizeof(event));
}

static __always_inline bool is_runtime(void)
{
	char comm[16] = {};

	bpf_get_current_comm(comm, sizeof(comm));
	/* runc and crun; what runc starts in containers is "runc:[2:INIT]" */
	return ((comm[0] == 'r' && comm[1] == 'u') || (comm[0] == 'c' && comm[1] == 'r')) &&
	       comm[2] == (comm[0] == 'r' ? 'n' : 'u') && comm[3] == (comm[0] == 'r' ? 'c' : 'n') && !comm[4];
}

HANDLER("raw_tp/sched_process_exit", on_exit, struct task_struct *task)
{
	struct sign_event event = {};
	struct task_struct *leader;
	__u64 *found, chosen;
	__u64 id = bpf_get_current_pid_tgid();
	__u32 pid = id >> 32, thread = id;
	__u8 yes = 1;
	int status;

	/* A process whose main thread is over is chosen by another of its threads. */
	if (thread != pid) {
		found = bpf_map_lookup_elem(&victims, &thread);
		if (found) {
			chosen = *found;
			bpf_map_delete_elem(&victims, &thread);
			bpf_map_update_elem(&victims, &pid, &chosen, BPF_ANY);
		}
	}
	if (BPF_CORE_READ(task, signal, live.counter))
		return;	/* other threads live on */
	event.pid = pid;
	if (is_runtime()) {
		event.time = bpf_ktime_get_ns();
		event.sign = COMMANDED;
		raw_output(sign, &event, sizeof(event));
	}
	found = bpf_map_lookup_elem(&victims, &pid);
	if (found) {
		event.time = *found;
		if (!bpf_map_delete_elem(&victims, &pid)) {
			event.sign = OUT_OF_MEMORY;
			event.cgroup_id = eunomia_cgroup();
			raw_output(sign, &event, sizeof(event));
		}
	}
	found = bpf_map_lookup_elem(&firsts, &pid);
	if (!found)
		return;
	event.cgroup_id = *found;
	/* threads that end at the same time all find that none lives */
	if (bpf_map_delete_elem(&firsts, &pid))
		return;
	/* its cgroup may outlive it, and another run be put there */
	bpf_map_update_elem(&fresh, &event.cgroup_id, &yes, BPF_ANY);
	leader = BPF_CORE_READ(task, group_leader);
	event.time = bpf_ktime_get_ns();
	event.start = BPF_CORE_READ(leader, start_time);
	event.sign = ENDED;
	/* as wait(2) has it */
	if (BPF_CORE_READ(task, signal, flags) & GROUP_EXIT)
		status = BPF_CORE_READ(task, signal, group_exit_code);
	else
		status = BPF_CORE_READ(leader, exit_code);
	event.exit_code = status >> 8 & 0xff;
	event.signal = status & 0x7f;
	raw_output(sign, &event, sizeof(event));
}

HANDLER_TP("tp/cgroup/cgroup_mkdir", made, struct cgroup_record *ctx)
{
	__u64 cgroup = ctx->id;
	__u8 yes = 1;

	/* one a hierarchy, and their ids collide */
	if (ctx->root == eunomia_hierarchy)
		bpf_map_update_elem(&fresh, &cgroup, &yes, BPF_ANY);
}

HANDLER_TP("tp/cgroup/cgroup_rmdir", unmade, struct cgroup_record *ctx)
{
	__u64 cgroup = ctx->id;

	if (ctx->root == eunomia_hierarchy)
		bpf_map_delete_elem(&fresh, &cgroup);
}

HANDLER_TP("tp/cgroup/cgroup_notify_frozen", frozen, struct cgroup_record *ctx)
{
	struct task_struct *task = (struct task_struct *)bpf_get_current_task();
	struct sign_event event = {};

	if (ctx->root != eunomia_hierarchy)
		return;
	event.time = bpf_ktime_get_ns();
	event.cgroup_id = ctx->id;
	if (ctx->state)
		event.sign = FROZEN;
	else	/* a process that was thawed lives on */
		event.sign = BPF_CORE_READ(task, signal, flags) & GROUP_EXIT ? KILLED : THAWED;
	raw_output(sign, &event, sizeof(event));
}

HANDLER_TP("tp/oom/mark_victim", chosen, struct victim_record *ctx)
{
	__u64 now = bpf_ktime_get_ns();
	__u32 pid = ctx->pid;

	bpf_map_update_elem(&victims, &pid, &now, BPF_ANY);
}
