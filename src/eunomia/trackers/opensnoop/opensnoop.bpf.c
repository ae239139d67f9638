// SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause)
/* Which files are opened, by whom, which cannot be, and how long does it take? */
#include <eunomia/probe.h>
#include <eunomia/task.h>
#include <eunomia/text.h>

#define AT_FDCWD -100

#if defined(__TARGET_ARCH_x86)
#define NR_OPEN 2
#define NR_CREAT 85
#define NR_OPENAT 257
#define IS_OLD_OPEN(id) ((id) == NR_OPEN || (id) == NR_CREAT)
#else
#define NR_OPENAT 56
#define IS_OLD_OPEN(id) false
#endif
#define NR_OPENAT2 437

#define CREAT_FLAGS 01101	/* O_CREAT | O_WRONLY | O_TRUNC, as creat(2) has it */
#define RESOLVE_IN_ROOT 0x10

struct open_event {
	TASK_FIELDS;
	str_t path doc("path as the program gave it");
	path_t resolved doc("absolute path of what was opened, inside the container's root, or with (unreachable) in front; of what would have been, where it failed");
	open_flags_t flags doc("flags as the program gave them");
	errno_t errno doc("why it could not be opened; empty where it was");
	duration_ns_t latency_ns doc("time that the call took");
	__s32 fd hidden doc("file descriptor; -1 where there is none");
} doc("a file was opened, or could not be");

STREAM(open, struct open_event, 4 << 20);
TEXT(open_text);

/* A call that has begun; `start` is 0 where none has. */
struct open_call {
	__u64 start;
	const char *path;
	__s32 dirfd;
	__u32 flags;
	bool rooted;	/* the directory serves as the root */
};

/* As in linux/openat2.h. */
struct how {
	__u64 flags, mode, resolve;
};

struct {
	__uint(type, BPF_MAP_TYPE_TASK_STORAGE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, int);
	__type(value, struct open_call);
} calls SEC(".maps");

static __always_inline int begin(__s32 dirfd, const char *path, __u32 flags, bool rooted)
{
	struct open_call *call;

	if (!eunomia_wants(eunomia_cgroup()))
		return 0;
	call = bpf_task_storage_get(&calls, bpf_get_current_task_btf(), 0, BPF_LOCAL_STORAGE_GET_F_CREATE);
	if (!call) {
		stream_lost(open);
		return 0;
	}
	call->path = path;
	call->dirfd = dirfd;
	call->flags = flags;
	call->rooted = rooted;
	call->start = bpf_ktime_get_ns();
	return 0;
}

static __always_inline int on_enter(__s32 dirfd, const char *path, __u32 flags)
{
	return begin(dirfd, path, flags, false);
}

static __always_inline int on_enter2(__s32 dirfd, const char *path, const void *from)
{
	struct how how = {};

	bpf_probe_read_user(&how, sizeof(how), from);
	return begin(dirfd, path, how.flags, how.resolve & RESOLVE_IN_ROOT);
}

/*
 * Where a relative path starts from: the text of that directory and a slash, before TEXT_MIDDLE, and its
 * start; TEXT_MIDDLE where there is no such directory.
 */
static __always_inline __u32 prepend_directory(struct text *text, const struct task_struct *task, __s32 dirfd,
					       const struct path *root)
{
	struct path path = {};

	if (dirfd == AT_FDCWD) {
		task_cwd(&path, task);
	} else {
		struct file *file = task_file(task, dirfd);

		if (file)
			file_path(&path, file);
	}
	if (!path.mnt)
		return TEXT_MIDDLE;
	text->bytes[TEXT_MIDDLE - 1] = '/';
	return path_prepend(text, TEXT_MIDDLE - 1, &path, root);
}

/*
 * Blanks each ".." that would lead above the directory that serves as the root: the kernel keeps the path in it.
 * A byte a step; `number` is how deep the path is there, `least` where its last component begins.
 */
static long stay_inside(__u32 index, struct text **ctx)
{
	struct text *text = *ctx;
	__u64 at = text->walk.at, length = at - text->walk.least;
	char here;

	if (at < TEXT_MIDDLE || at >= TEXT_MIDDLE + PATH_MAX)
		return 1;
	here = text->bytes[at];
	text->walk.at = at + 1;
	if (here && here != '/')
		return 0;
	if (length == 2 && text->bytes[at - 1] == '.' && text->bytes[at - 2] == '.') {
		if (text->walk.number)
			text->walk.number--;
		else
			text->bytes[at - 1] = text->bytes[at - 2] = '/';
	} else if (length > 1 || (length == 1 && text->bytes[at - 1] != '.')) {
		text->walk.number++;
	}
	text->walk.least = at + 1;
	return !here;
}

static __always_inline int on_exit(long ret)
{
	struct task_struct *task = bpf_get_current_task_btf();
	struct open_call *call = bpf_task_storage_get(&calls, task, 0, 0);
	struct open_event event = {};
	struct path root, path = {};
	__u32 start = TEXT_MIDDLE;
	struct text *text;
	__u64 copied = 0, length;
	long size;

	if (!call || !call->start)
		return 0;
	text = text_of(&open_text);
	if (!text)
		return 0;
	task_fields(&event, eunomia_cgroup());
	event.latency_ns = event.time - call->start;
	call->start = 0;
	event.flags = call->flags;
	event.errno = ret < 0 ? -ret : 0;
	event.fd = ret < 0 ? -1 : ret;

	/* read at the end: its page is there now, for the kernel itself has read it */
	size = read_user_string(&text->bytes[TEXT_MIDDLE], PATH_MAX, call->path);
	if (size < 1)
		size = 1;
	/*
	 * Loaded as in the kernel itself, for `task` is known for what it is: at each open, calls of
	 * bpf_probe_read_kernel() would tell. Each such load costs the verifier milliseconds, though: it
	 * looks for names all through the kernel's BTF.
	 */
	root.mnt = task->fs->root.mnt;
	root.dentry = task->fs->root.dentry;
	if (ret >= 0) {
		struct file *file = NULL;

		bpf_probe_read_kernel(&file, sizeof(file), task->files->fdt->fd + ret);

		if (file) {
			file_path(&path, file);
			start = path_prepend(text, TEXT_MIDDLE, &path, &root);
		}
	} else if (size > 1) {
		bool relative = call->rooted || text->bytes[TEXT_MIDDLE] != '/';

		if (relative)
			start = prepend_directory(text, task, call->dirfd, &root);
		if (!relative || start != TEXT_MIDDLE)
			event.resolved.len = size - 1;	/* the path, behind its directory */
		length = size - 1;
		barrier_var(length);
		if (call->rooted && length < PATH_MAX) {	/* what was asked for stands behind what it comes to */
			text->walk.at = text->walk.least = TEXT_MIDDLE;
			text->walk.number = 0;
			bpf_loop(PATH_MAX, stay_inside, &text, 0);
			copied = length;
			size = read_user_string(&text->bytes[TEXT_MIDDLE + copied], PATH_MAX, call->path);
			if (size < 1)
				size = 1;
		}
	}
	event.path.off = sizeof(event) + TEXT_MIDDLE - start + copied;
	event.path.len = size - 1;
	event.resolved.off = sizeof(event);
	event.resolved.len += TEXT_MIDDLE - start;
	stream_text(open, text, &event, start, TEXT_MIDDLE + copied + size - 1);
	return 0;
}

#define ENTER(call_, begin_, dirfd_, path_, flags_) \
	SEC("tp/syscalls/sys_enter_" #call_) \
	int enter_##call_(struct trace_event_raw_sys_enter *ctx) \
	{ \
		return begin_(dirfd_, (const char *)ctx->args[path_], flags_); \
	}

#if defined(__TARGET_ARCH_x86)
#define CALLS "open,creat,openat,openat2"
ENTER(open, on_enter, AT_FDCWD, 0, ctx->args[1])
ENTER(creat, on_enter, AT_FDCWD, 0, CREAT_FLAGS)
#else
#define CALLS "openat,openat2"
#endif
ENTER(openat, on_enter, ctx->args[0], 1, ctx->args[2])
ENTER(openat2, on_enter2, ctx->args[0], 1, (const void *)ctx->args[2])

/* One program on all of them: the verifier has to follow its paths once. */
SEC("tp/syscalls/sys_exit_{" CALLS "}")
int exit_calls(struct trace_event_raw_sys_exit *ctx)
{
	return on_exit(ctx->ret);
}

/* For kernels that have no tracepoint for each system call (CONFIG_FTRACE_SYSCALLS). */

static __always_inline int on_any_enter(struct pt_regs *regs, long id)
{
	switch (id) {
#if defined(__TARGET_ARCH_x86)
	case NR_OPEN:
		return on_enter(AT_FDCWD, (const char *)SYSCALL_ARG1(regs), SYSCALL_ARG2(regs));
	case NR_CREAT:
		return on_enter(AT_FDCWD, (const char *)SYSCALL_ARG1(regs), CREAT_FLAGS);
#endif
	case NR_OPENAT:
		return on_enter(SYSCALL_ARG1(regs), (const char *)SYSCALL_ARG2(regs), SYSCALL_ARG3(regs));
	case NR_OPENAT2:
		return on_enter2(SYSCALL_ARG1(regs), (const char *)SYSCALL_ARG2(regs),
				 (const void *)SYSCALL_ARG3(regs));
	}
	return 0;
}

SEC("raw_tp/sys_enter")
int BPF_PROG(enter_raw, struct pt_regs *regs, long id)
{
	if (id != NR_OPENAT && id != NR_OPENAT2 && !IS_OLD_OPEN(id))
		return 0;
	/* the numbers of the 32-bit ABI mean other calls */
	return task_in_compat_call(bpf_get_current_task_btf()) ? 0 : on_any_enter(regs, id);
}

SEC("raw_tp/sys_exit")
int BPF_PROG(exit_raw, struct pt_regs *regs, long ret)
{
	/* only the calls above leave anything for it to find */
	return on_exit(ret);
}
