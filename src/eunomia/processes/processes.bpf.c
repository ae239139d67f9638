// SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause)
/*
 * Which processes run, which processes made them, and how do they end?
 *
 * An iterator reports those that run already, tracepoints what follows: all in one stream, because its order counts.
 * A process is told apart from others with the same pid by its start.
 */
#include <eunomia/types.h>
#include <eunomia/kernel.h>
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_core_read.h>
#include <bpf/bpf_tracing.h>
#include <eunomia/cgroup.h>
#include <eunomia/hook.h>
#include <eunomia/stream.h>
#include <eunomia/text.h>

/* No <eunomia/probe.h>: processes are not filtered. */
char LICENSE[] SEC("license") = "Dual BSD/GPL";

#define ARGV_MAX 1024		/* bytes of argv kept, NULs included */
#define SESSION 3		/* PIDTYPE_SID, include/linux/pid_types.h, since Linux 4.19 */

enum kind {
	FOUND,			/* ran already */
	FORKED,
	EXECUTED,
	ENDED,
};

struct life {
	time_ns_t time doc("when it happened");
	__u64 start doc("when the process began, in monotonic ns");
	__u64 parent_start;
	__u64 maker_start;
	__u64 root doc("its root directory, as a unique number");
	cgroup_id_t cgroup_id;
	pid_t pid;
	pid_t ppid;
	pid_t maker doc("the process that called fork(): with CLONE_PARENT not the parent");
	uid_t uid doc("real user id, as the host sees it");
	pid_t session doc("process id of the session's leader");
	__u32 mnt_ns;
	__u32 user_ns;
	__u32 kind;
	char comm[16];
	char tty[16] doc("controlling terminal, as the kernel names it");
	path_t exe;
	argv_t argv;
};

/* Larger than the rings of trackers that show processes: a record that they keep must be kept here, too. */
STREAM(life, struct life, 8 << 20);
TEXT(exec_text);
TEXT(found_text);

/* Two steps of the same task, so that the verifier has shorter paths to follow. */
static __always_inline void who(struct life *life, struct task_struct *task, enum kind kind)
{
	struct task_struct *leader = BPF_CORE_READ(task, group_leader);
	struct task_struct *parent = BPF_CORE_READ(task, real_parent);

	life->time = bpf_ktime_get_ns();
	life->kind = kind;
	life->start = BPF_CORE_READ(leader, start_time);
	life->pid = BPF_CORE_READ(task, tgid);
	life->ppid = BPF_CORE_READ(parent, tgid);
	life->parent_start = BPF_CORE_READ(parent, group_leader, start_time);
}

static __always_inline void what(struct life *life, struct task_struct *task)
{
	struct signal_struct *signal = BPF_CORE_READ(task, signal);
	struct tty_struct *tty = BPF_CORE_READ(signal, tty);

	life->root = (__u64)BPF_CORE_READ(task, fs, root.dentry);
	life->cgroup_id = eunomia_cgroup_of(task);
	life->uid = BPF_CORE_READ(task, cred, uid.val);
	life->session = BPF_CORE_READ(signal, pids[SESSION], numbers[0].nr);
	life->mnt_ns = BPF_CORE_READ(task, nsproxy, mnt_ns, ns.inum);
	life->user_ns = BPF_CORE_READ(task, cred, user_ns, ns.inum);
	BPF_CORE_READ_STR_INTO(&life->comm, task, comm);
	if (tty)
		bpf_probe_read_kernel_str(life->tty, sizeof(life->tty), (void *)tty + bpf_core_field_offset(struct tty_struct, name));
}

/* Writes the program's path in front of the text's middle; returns where it starts. */
static __always_inline __u32 program(struct life *life, struct text *text, struct task_struct *task)
{
	struct path root, path;
	__u32 start;

	task_root(&root, task);
	file_path(&path, BPF_CORE_READ(task, mm, exe_file));
	start = path_prepend(text, TEXT_MIDDLE, &path, &root);
	life->exe.off = sizeof(*life);
	life->exe.len = TEXT_MIDDLE - start;
	life->argv.off = life->exe.off + life->exe.len;
	return start;
}

HANDLER("raw_tp/sched_process_exec", on_exec, struct task_struct *task)
{
	struct text *text = text_of(&exec_text);
	struct life event = {};
	__u32 from, to = TEXT_MIDDLE;
	unsigned long start;
	__u64 size;

	if (!text)
		return;
	who(&event, task, EXECUTED);
	what(&event, task);
	from = program(&event, text, task);
	start = BPF_CORE_READ(task, mm, arg_start);
	size = BPF_CORE_READ(task, mm, arg_end) - start;
	if (size > ARGV_MAX)
		size = ARGV_MAX;
	if (!bpf_probe_read_user(&text->bytes[TEXT_MIDDLE], size, (void *)start))
		to += size;
	event.argv.len = to - TEXT_MIDDLE;
	stream_text(life, text, &event, from, to);
}

HANDLER("raw_tp/sched_process_fork", on_fork, struct task_struct *parent, struct task_struct *child)
{
	struct life event = {};

	if (BPF_CORE_READ(child, pid) != BPF_CORE_READ(child, tgid))
		return;	/* a thread */
	who(&event, child, FORKED);
	what(&event, child);
	event.maker = BPF_CORE_READ(parent, tgid);
	event.maker_start = BPF_CORE_READ(parent, group_leader, start_time);
	stream_output(life, &event, sizeof(event));
}

HANDLER("raw_tp/sched_process_exit", on_exit, struct task_struct *task)
{
	struct life event = {};

	if (BPF_CORE_READ(task, signal, live.counter))
		return;	/* other threads live on */
	who(&event, task, ENDED);
	stream_output(life, &event, sizeof(event));
}

SEC("iter/task")
int found(struct bpf_iter__task *ctx)
{
	struct task_struct *task = ctx->task;
	struct text *text = text_of(&found_text);
	struct life event = {};
	__u32 from;

	if (!task || !text)
		return 0;
	/* After the end of the main thread, only the others have the process's program. */
	if (BPF_CORE_READ(task, pid) != BPF_CORE_READ(task, tgid) &&
	    (BPF_CORE_READ(task, group_leader, mm) || !BPF_CORE_READ(task, mm)))
		return 0;
	if (!BPF_CORE_READ(task, signal, live.counter))
		return 0;	/* has ended, and waits for its parent */
	who(&event, task, FOUND);
	what(&event, task);
	if (BPF_CORE_READ(task, pid) != BPF_CORE_READ(task, tgid))
		BPF_CORE_READ_STR_INTO(&event.comm, task, group_leader, comm);
	from = program(&event, text, task);
	barrier_var(from);	/* as in stream_text() */
	if (from < FIXED_ROOM || from > TEXT_MIDDLE)
		return 0;
	from -= sizeof(event);
	bpf_probe_read_kernel(&text->bytes[from], sizeof(event), &event);
	bpf_seq_write(ctx->meta->seq, &text->bytes[from], TEXT_MIDDLE - from);
	return 0;
}
