// SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause)
/* Which programs start, who starts them, and how do they end? */
#include <eunomia/probe.h>
#include <eunomia/syscall.h>
#include <eunomia/task.h>
#include <eunomia/text.h>

#define EEXIST 17
#define ARGV_MAX 8192		/* bytes of argv kept, NULs included */
#define FAILED_ARGS 4096	/* arguments kept of an exec that failed ... */
#define ARGUMENT_MAX 4097	/* ... and bytes of each: all that 4 KiB of argv can hold, and one */
#define RESTARTED 513		/* ERESTARTNOINTR: the kernel restarts the call */
#define GROUP_EXIT 4		/* SIGNAL_GROUP_EXIT, include/linux/sched/signal.h */

struct exec_event {
	TASK_FIELDS;
	PARENT_FIELDS;
	EXEC_ID_FIELDS;
	path_t exe doc("the program file, inside the container's root, or with (unreachable) in front; as asked for where the exec failed");
	argv_t argv doc("arguments, the program's name first");
	bool argv_cut doc("whether argv is longer than what is shown");
	path_t cwd doc("working directory, inside the container's root, or with (unreachable) in front");
	errno_t errno doc("why the exec failed; empty where it did not");
	NAMESPACE_FIELDS;
} doc("a program was started, or could not be");

struct fork_event {
	TASK_FIELDS;
	PARENT_FIELDS;
	EXEC_ID_FIELDS;
	pid_t child_pid doc("process id of the new process, as the host sees it");
	exec_id_t child_exec_id hidden doc("the new process, for good");
	NAMESPACE_FIELDS;
} doc("a process was made; threads are not shown");

struct exit_event {
	TASK_FIELDS;
	PARENT_FIELDS;
	EXEC_ID_FIELDS;
	__u32 exit_code doc("status that the process gave to exit(), 0 to 255");
	signal_t signal doc("signal that killed it; empty for none");
	duration_ns_t duration_ns doc("time since it was forked");
	NAMESPACE_FIELDS;
} doc("a process ended, with the last of its threads");

STREAM(exec, struct exec_event, 1 << 20);
STREAM(fork, struct fork_event, 512 << 10);
STREAM(exit, struct exit_event, 512 << 10);
TEXT(exec_text);
TEXT(failed_text);

/* Processes that have ended lately; their start tells them from others that had the same id. */
struct ended_key {
	__u64 start;
	__u64 pid;
};

struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 1024);
	__type(key, struct ended_key);
	__type(value, __u8);
} ended SEC(".maps");

/* All three happen in the task that they are about. */

HANDLER("raw_tp/sched_process_exec", on_exec)
{
	const struct task_struct *task = task_current();
	__u64 cgroup = eunomia_cgroup(), size;
	struct exec_event event = {};
	struct path root, path, exe_path;
	const struct mm_struct *mm;
	struct text *text;
	unsigned long start;
	__u32 cwd, exe, end = TEXT_MIDDLE;

	if (!eunomia_wants(cgroup))
		return;
	text = text_of(&exec_text);
	if (!text)
		return;
	task_fields(&event, cgroup);
	parent_fields(&event, task);
	exec_id_fields(&event, task);
	namespace_fields(&event, task);
	task_root(&root, task);
	task_cwd(&path, task);
	mm = task->mm;
	exe_path.mnt = mm->exe_file->f_path.mnt;
	exe_path.dentry = mm->exe_file->f_path.dentry;
	start = mm->arg_start;
	size = mm->arg_end - start;

	cwd = path_prepend(text, TEXT_MIDDLE, &path, &root);
	exe = path_prepend(text, cwd, &exe_path, &root);

	if (size > ARGV_MAX) {
		size = ARGV_MAX;
		event.argv_cut = true;
	}
	if (bpf_probe_read_user(&text->bytes[TEXT_MIDDLE], size, (void *)start))
		event.argv_cut = true;	/* paged out: not there, and said so */
	else
		end += size;

	event.exe.off = sizeof(event);
	event.exe.len = cwd - exe;
	event.cwd.off = event.exe.off + event.exe.len;
	event.cwd.len = TEXT_MIDDLE - cwd;
	event.argv.off = event.cwd.off + event.cwd.len;
	event.argv.len = end - TEXT_MIDDLE;
	stream_text(exec, text, &event, exe, end);
}

/*
 * Arguments are copied from `number` on in user space, whose pointers are `least` bytes wide, to `at`; `outside` says
 * that there are more than fit. No path is walked any more, so the walk's place in the map serves here too.
 */
static long copy_argument(__u32 index, struct text **ctx)
{
	struct text *text = *ctx;
	__u64 at = text->walk.at, argument = 0;
	long size;

	if (bpf_probe_read_user(&argument, text->walk.least == 4 ? 4 : 8, (const void *)text->walk.number) || !argument)
		return 1;
	text->walk.number += text->walk.least;
	text->walk.outside = true;
	if (index == FAILED_ARGS || BELOW(at, TEXT_MIDDLE) || ABOVE(at, TEXT_MIDDLE + TEXT_TAIL - ARGUMENT_MAX))
		return 1;
	size = read_user_string(&text->bytes[at], ARGUMENT_MAX, (const char *)argument);
	if (size > 0)
		text->walk.at = at + size;
	if (size < 0 || size == ARGUMENT_MAX)
		return 1;
	text->walk.outside = false;
	return 0;
}

/* What was asked for. It stands in the map, in front of where paths end, for the same reason as a walk. */
struct exec_call {
	const char *name;
	__u64 argv, pointer_size, fd;
	bool at;
};

/* An exec that failed leaves its arguments where the caller had them. */
SYSCALL_EXIT(on_failed_exec, execve, execveat)
{
	const struct task_struct *task = task_current();
	__u64 cgroup = eunomia_cgroup();
	struct exec_event event = {};
	struct exec_call *asked;
	struct path root, path;
	struct text *text;
	__u32 cwd, end, start;
	long size;

	if (call->ret >= 0 || call->ret == -RESTARTED || !eunomia_wants(cgroup))
		return;
	text = text_of(&failed_text);
	if (!text)
		return;
	_Static_assert(sizeof(*asked) <= FIXED_ROOM, "paths come before it");
	asked = (struct exec_call *)text->bytes;
	asked->at = syscall_is(call, execveat);
	asked->fd = syscall_arg(call, 0);
	asked->name = (const char *)(asked->at ? syscall_arg(call, 1) : syscall_arg(call, 0));
	asked->argv = asked->at ? syscall_arg(call, 2) : syscall_arg(call, 1);
	asked->pointer_size = call->index < SYSCALL_INDEX_COMPAT ? 8 : 4;
	task_fields(&event, cgroup);
	parent_fields(&event, task);
	exec_id_fields(&event, task);
	namespace_fields(&event, task);
	event.errno = -call->ret;
	task_root(&root, task);
	task_cwd(&path, task);
	cwd = path_prepend(text, TEXT_MIDDLE, &path, &root);

	size = read_user_string(&text->bytes[TEXT_MIDDLE], PATH_MAX, asked->name);
	if (size < 0)
		size = 0;
	start = cwd;
	if (asked->at && size == 1) {	/* fexecve(3): the program is the descriptor's */
		struct file *file = task_file(task, asked->fd);

		if (file) {
			file_path(&path, file);
			start = path_prepend(text, cwd, &path, &root);
		}
	}
	text->walk.at = TEXT_MIDDLE + size;
	text->walk.number = asked->argv;
	text->walk.least = asked->pointer_size;
	text->walk.outside = false;
	bpf_loop(FAILED_ARGS + 1, copy_argument, &text, 0);
	end = text->walk.at;

	event.argv_cut = text->walk.outside;
	event.cwd.off = sizeof(event) + cwd - start;
	event.cwd.len = TEXT_MIDDLE - cwd;
	event.exe.off = event.cwd.off + event.cwd.len;
	event.exe.len = size ? size - 1 : 0;
	event.argv.off = event.exe.off + size;
	event.argv.len = end - TEXT_MIDDLE - size;
	if (start != cwd) {
		event.exe.off = sizeof(event);
		event.exe.len = cwd - start;
	}
	stream_text(exec, text, &event, start, end);
}

HANDLER("raw_tp/sched_process_fork", on_fork, struct task_struct *current, struct task_struct *child)
{
	const struct task_struct *parent = task_current();
	__u64 cgroup = eunomia_cgroup();
	struct fork_event event = {};

	event.child_pid = BPF_CORE_READ(child, tgid);
	if (event.child_pid == parent->tgid)
		return;	/* a thread */
	if (!eunomia_wants(cgroup))
		return;
	task_fields(&event, cgroup);
	parent_fields(&event, parent);
	exec_id_fields(&event, parent);
	event.child_exec_id.start = BPF_CORE_READ(child, start_time);
	event.child_exec_id.pid = event.child_pid;
	namespace_fields(&event, parent);
	stream_output(fork, &event, sizeof(event));
}

HANDLER("raw_tp/sched_process_exit", on_exit)
{
	const struct task_struct *task = task_current();
	const struct signal_struct *signal = task->signal;
	__u64 cgroup = eunomia_cgroup();
	struct ended_key key = {};
	const struct task_struct *leader;
	struct exit_event event = {};
	__u8 yes = 1;
	int status;

	if (signal->live.counter)
		return;	/* other threads live on */
	if (!eunomia_wants(cgroup))
		return;
	leader = BPF_CORE_READ(task, group_leader);
	/* threads that end at the same time all find that none lives: the first of them tells */
	key.start = BPF_CORE_READ(leader, start_time);
	key.pid = task->tgid;
	if (signal->nr_threads == 1) {	/* the last one: others have told by now, or there were none */
		if (bpf_map_lookup_elem(&ended, &key))
			return;
	/* before 6.4 the verifier calls a function that returns int, whose sign does not reach the upper half */
	} else if ((int)bpf_map_update_elem(&ended, &key, &yes, BPF_NOEXIST) == -EEXIST) {
		return;
	}
	task_fields(&event, cgroup);
	parent_fields(&event, task);
	exec_id_fields(&event, task);
	namespace_fields(&event, task);
	/* as wait(2) has it */
	if (signal->flags & GROUP_EXIT)
		status = signal->group_exit_code;
	else
		status = BPF_CORE_READ(leader, exit_code);
	event.exit_code = status >> 8 & 0xff;
	event.signal = status & 0x7f;
	event.duration_ns = event.time - key.start;
	stream_output(exit, &event, sizeof(event));
}
