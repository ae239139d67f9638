// SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause)
/* Which system calls does each process make, how many of them fail, and what time do they take? */
#include <eunomia/probe.h>
#include <eunomia/syscall_time.h>

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
	duration_ns_t total_ns none(0) doc("time that all of them took together; none where calls are not timed");
} doc("system calls of one kind that a process made in an interval");

TABLE(syscall, struct syscall_key, struct syscall_value, SYSCALL_ENTRIES);

/* What these seem to return is the result of the call that the signal came in. */
static __always_inline bool is_sigreturn(__u64 number)
{
	return number == NR_RT_SIGRETURN || number == X32_RT_SIGRETURN || number == COMPAT_RT_SIGRETURN ||
	       number == COMPAT_SIGRETURN;
}

static __always_inline struct syscall_value *make_entry(void *table, struct syscall_key *key)
{
	struct syscall_value fresh = {};

	bpf_get_current_comm(fresh.comm, sizeof(fresh.comm));
	/* another thread may have been faster: then its entry is the one */
	bpf_map_update_elem(table, key, &fresh, BPF_NOEXIST);
	return bpf_map_lookup_elem(table, key);
}

SYSCALL_ANY_EXIT(ended)
{
	bool failed = call->ret < 0 && call->ret >= -MAX_ERRNO;
	const struct eunomia_begun *begun;
	struct syscall_key key = {};
	struct syscall_value *value;
	__u64 duration = 0;
	__u32 zero = 0;
	void *table;

	key.cgroup_id = eunomia_cgroup();
	if (!eunomia_wants(key.cgroup_id))
		return;
	begun = syscall_beginning(call);
	if (begun)
		duration = bpf_ktime_get_ns() - begun->time;
	else if (latency ? !failed : (__s32)syscall_number(call) < 0)
		return;	/* it began before we did, or is a sigreturn, which has none of its registers any more */
	/* seccomp refuses a call before anybody hears that it began */
	key.syscall = begun ? begun->syscall : syscall_id(call);
	key.pid = call->task->tgid;
	table = bpf_map_lookup_elem(&syscall, &zero);
	if (!table)
		return;
	value = bpf_map_lookup_elem(table, &key);
	if (!value)
		value = make_entry(table, &key);
	if (!value) {
		stream_lost(syscall);	/* the table is full */
		return;
	}
	__sync_fetch_and_add(&value->count, 1);
	if (latency)
		__sync_fetch_and_add(&value->total_ns, duration);
	if (failed && !is_sigreturn(key.syscall))
		__sync_fetch_and_add(&value->errors, 1);
}
