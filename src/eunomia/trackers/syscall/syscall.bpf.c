// SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause)
/* Which system calls does each process make, how many of them fail, and what time do they take? */
#include <eunomia/probe.h>
#include <eunomia/task.h>

#define MAX_ERRNO 4095

#if defined(__TARGET_ARCH_x86)
#define NR_RT_SIGRETURN 15
#define X32_RT_SIGRETURN (0x40000000 | 513)
#define COMPAT_RT_SIGRETURN (SYSCALL_COMPAT | 173)
#define COMPAT_SIGRETURN (SYSCALL_COMPAT | 119)
#else
#define NR_RT_SIGRETURN 139
#define X32_RT_SIGRETURN NR_RT_SIGRETURN
#define COMPAT_RT_SIGRETURN (SYSCALL_COMPAT | 173)
#define COMPAT_SIGRETURN (SYSCALL_COMPAT | 119)
#endif

#ifndef SYSCALL_ENTRIES
#define SYSCALL_ENTRIES 65536
#endif

struct syscall_key {
	cgroup_id_t cgroup_id hidden doc("cgroup of the process: the inode number of its directory");
	pid_t pid doc("process id, as the host sees it");
	syscall_t syscall doc("name of the system call");
};

struct syscall_value {
	char comm[16] doc("command name of the thread that made the first of these calls");
	__u64 count doc("calls that ended in the interval");
	__u64 errors doc("of them, calls that returned an error");
	duration_ns_t total_ns doc("time that all of them took together");
} doc("system calls of one kind that a process made in an interval");

TABLE(syscall, struct syscall_key, struct syscall_value, SYSCALL_ENTRIES);

struct call {
	__u64 start;	/* 0 where none has begun */
	__u64 syscall;
};

struct {
	__uint(type, BPF_MAP_TYPE_TASK_STORAGE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, int);
	__type(value, struct call);
} calls SEC(".maps");

/* Any 32 bits can be asked for, in each ABI; x32's numbers have bit 30 set in what was asked for. */
static __always_inline __u64 number_of(struct task_struct *task, long id)
{
	return (__u32)id | (task_in_compat_call(task) ? SYSCALL_COMPAT : 0);
}

/* What these seem to return is the result of the call that the signal came in. */
static __always_inline bool is_sigreturn(__u64 number)
{
	return number == NR_RT_SIGRETURN || number == X32_RT_SIGRETURN || number == COMPAT_RT_SIGRETURN ||
	       number == COMPAT_SIGRETURN;
}

static __always_inline int on_enter(long id)
{
	struct task_struct *task = bpf_get_current_task_btf();
	struct call *call;

	if (!eunomia_wants(eunomia_cgroup()))
		return 0;
	call = bpf_task_storage_get(&calls, task, 0, BPF_LOCAL_STORAGE_GET_F_CREATE);
	if (!call) {
		stream_lost(syscall);
		return 0;
	}
	call->syscall = number_of(task, id);
	call->start = bpf_ktime_get_ns();
	return 0;
}

static __always_inline struct syscall_value *make_entry(void *table, struct syscall_key *key)
{
	struct syscall_value fresh = {};

	bpf_get_current_comm(fresh.comm, sizeof(fresh.comm));
	/* another thread may have been faster: then its entry is the one */
	bpf_map_update_elem(table, key, &fresh, BPF_NOEXIST);
	return bpf_map_lookup_elem(table, key);
}

static __always_inline int on_exit(struct pt_regs *regs, long ret)
{
	struct task_struct *task = bpf_get_current_task_btf();
	struct call *call = bpf_task_storage_get(&calls, task, 0, 0);
	bool failed = ret < 0 && ret >= -MAX_ERRNO;
	struct syscall_value *value;
	struct syscall_key key = {};
	__u64 duration = 0;
	__u32 zero = 0;
	void *table;

	if (!call)
		return 0;	/* it began before we did, or it is not wanted */
	key.cgroup_id = eunomia_cgroup();
	key.pid = bpf_get_current_pid_tgid() >> 32;
	if (call->start) {
		duration = bpf_ktime_get_ns() - call->start;
		call->start = 0;
		key.syscall = call->syscall;
	} else if (failed && eunomia_wants(key.cgroup_id)) {
		/* seccomp refuses a call before anybody hears that it began */
		key.syscall = number_of(task, SYSCALL_NUMBER(regs));
	} else {
		return 0;
	}
	table = bpf_map_lookup_elem(&syscall, &zero);
	if (!table)
		return 0;
	value = bpf_map_lookup_elem(table, &key);
	if (!value)
		value = make_entry(table, &key);
	if (!value) {
		stream_lost(syscall);	/* the table is full */
		return 0;
	}
	__sync_fetch_and_add(&value->count, 1);
	__sync_fetch_and_add(&value->total_ns, duration);
	if (failed && !is_sigreturn(key.syscall))
		__sync_fetch_and_add(&value->errors, 1);
	return 0;
}

SEC("tp_btf/sys_enter")
int BPF_PROG(enter_btf, struct pt_regs *regs, long id)
{
	return on_enter(id);
}

SEC("tp_btf/sys_exit")
int BPF_PROG(exit_btf, struct pt_regs *regs, long ret)
{
	return on_exit(regs, ret);
}

SEC("raw_tp/sys_enter")
int BPF_PROG(enter_raw, struct pt_regs *regs, long id)
{
	return on_enter(id);
}

SEC("raw_tp/sys_exit")
int BPF_PROG(exit_raw, struct pt_regs *regs, long ret)
{
	return on_exit(regs, ret);
}
