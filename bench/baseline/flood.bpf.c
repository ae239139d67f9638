/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* How fast can records be taken out of a ring? One record of 64 bytes for each getppid() of one process. */
#include <eunomia/probe.h>

#if defined(__TARGET_ARCH_x86)
#define NR_GETPPID 110
#else
#define NR_GETPPID 173 /* the generic table: arm64, riscv, loongarch */
#endif

const volatile __u32 target doc("Process whose calls are recorded") = 0;

struct event {
	time_ns_t time doc("When the call began");
	cgroup_id_t cgroup doc("Cgroup of the caller");
	__u64 sequence doc("Calls seen so far, this one included");
	pid_t pid doc("Process");
	pid_t tid doc("Thread");
	uid_t uid doc("Who runs it");
	gid_t gid doc("Group of who runs it");
	syscall_t syscall doc("The call");
	__u32 cpu doc("Where it ran");
	char comm[16] doc("Name of the thread");
#ifdef WIDE /* another struct, for bench/swap.py */
	__u64 more doc("Nothing");
#endif
};

STREAM(events, struct event, 4 << 20);

/* Only the target's one thread counts here. */
__u64 seen = 0;

SEC("raw_tp/sys_enter")
int flood(struct bpf_raw_tracepoint_args *ctx)
{
	__u64 ids, owner;

	if (ctx->args[1] != NR_GETPPID)
		return 0;
	ids = bpf_get_current_pid_tgid();
	if (ids >> 32 != target)
		return 0;
	owner = bpf_get_current_uid_gid();

	struct event event = {
		.time = bpf_ktime_get_ns(),
		.cgroup = bpf_get_current_cgroup_id(),
		.sequence = ++seen,
		.pid = ids >> 32,
		.tid = ids,
		.uid = owner,
		.gid = owner >> 32,
		.syscall = NR_GETPPID,
		.cpu = bpf_get_smp_processor_id(),
	};

	bpf_get_current_comm(event.comm, sizeof(event.comm));
	stream_output(events, &event, sizeof(event));
	return 0;
}
