// SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause)
/* Which files are opened, by whom, which cannot be, and how long does it take? */
#include <eunomia/probe.h>
#include <eunomia/syscall_time.h>
#include <eunomia/task.h>
#include <eunomia/text.h>

#define AT_FDCWD -100

#define CREAT_FLAGS 01101	/* O_CREAT | O_WRONLY | O_TRUNC, as creat(2) has it */
#define RESOLVE_IN_ROOT 0x10

struct open_event {
	TASK_FIELDS;
	str_t path doc("path as the program gave it");
	path_t resolved doc("absolute path of what was opened, inside the container's root, or with (unreachable) in front; of what would have been, where it failed");
	open_flags_t flags doc("flags as the program gave them");
	errno_t errno doc("why it could not be opened; empty where it was");
	duration_ns_t latency_ns none(0) doc("time that the call took; none where nobody saw it begin");
	__s32 fd hidden doc("file descriptor; -1 where there is none");
} doc("a file was opened, or could not be");

STREAM(open, struct open_event, 4 << 20);
TEXT(open_text);

/* What was asked for; `start` is 0 where nobody saw that. */
struct open_call {
	__u64 start;
	const char *path;
	__s32 dirfd;
	__u32 flags;
	bool rooted;	/* the directory serves as the root */
	bool kept;	/* the path is in our own memory, and not in the program's */
	bool direct;	/* into a table of io_uring's: there is no descriptor */
};

/* As in linux/openat2.h. */
struct how {
	__u64 flags, mode, resolve;
};

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

static __always_inline long read_path(void *to, const struct open_call *call)
{
	long size = call->kept ? bpf_probe_read_kernel_str(to, PATH_MAX, call->path)
			       : read_user_string(to, PATH_MAX, call->path);

	return size < 1 ? 1 : size;
}

static __always_inline int on_exit(const struct task_struct *task, const struct open_call *call, long ret)
{
	struct open_event event = {};
	struct path root, path = {};
	__u32 start = TEXT_MIDDLE;
	struct text *text;
	__u64 copied = 0, length;
	long size;

	text = text_of(&open_text);
	if (!text)
		return 0;
	task_fields(&event, eunomia_cgroup());
	event.latency_ns = call->start ? event.time - call->start : 0;
	event.flags = call->flags;
	event.errno = ret < 0 ? -ret : 0;
	event.fd = ret < 0 || call->direct ? -1 : ret;

	/* read at the end: its page is there now, for the kernel itself has read it */
	size = read_path(&text->bytes[TEXT_MIDDLE], call);
	/*
	 * Loaded as in the kernel itself, for `task` is known for what it is: at each open, calls of
	 * bpf_probe_read_kernel() would tell. Each such load costs the verifier milliseconds, though: it
	 * looks for names all through the kernel's BTF.
	 */
	root.mnt = task->fs->root.mnt;
	root.dentry = task->fs->root.dentry;
	if (event.fd >= 0) {
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
			size = read_path(&text->bytes[TEXT_MIDDLE + copied], call);
		}
	}
	event.path.off = sizeof(event) + TEXT_MIDDLE - start + copied;
	event.path.len = size - 1;
	event.resolved.off = sizeof(event);
	event.resolved.len += TEXT_MIDDLE - start;
	stream_text(open, text, &event, start, TEXT_MIDDLE + copied + size - 1);
	return 0;
}

SYSCALL_EXIT(opened, open, creat, openat, openat2)
{
	struct open_call asked = { .dirfd = AT_FDCWD, .flags = CREAT_FLAGS };
	struct how how = {};
	bool at = !syscall_is(call, open) && !syscall_is(call, creat);

	if (!eunomia_wants(eunomia_cgroup()))
		return;
	if (at)
		asked.dirfd = syscall_arg(call, 0);
	asked.path = (const char *)(at ? syscall_arg(call, 1) : syscall_arg(call, 0));
	if (syscall_is(call, openat2)) {
		bpf_probe_read_user(&how, sizeof(how), (const void *)syscall_arg(call, 2));
		asked.flags = how.flags;
		asked.rooted = how.resolve & RESOLVE_IN_ROOT;
	} else if (!syscall_is(call, creat)) {
		asked.flags = at ? syscall_arg(call, 2) : syscall_arg(call, 1);
	}
	asked.start = syscall_begun(call);
	on_exit(call->task, &asked, call->ret);
}

/*
 * By io_uring: what is asked for is known when a request is handed in, and what becomes of it when it is over, in a
 * call of io_uring_enter(2) or in a thread of the kernel's that belongs to the process.
 */
#define IORING_OP_OPENAT 18
#define IORING_OP_OPENAT2 28
#define CQE_SKIP (1 << 6)	/* REQ_F_CQE_SKIP: nobody is told that it succeeded */
#define O_LARGEFILE 0100000	/* io_uring adds it */

struct ring_open {
	struct open_call asked;
	char path[PATH_MAX];
};

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, 4096);
	__type(key, struct io_kiocb *);
	__type(value, struct ring_open);
} ring_opens SEC(".maps");

static __always_inline bool is_open(const struct io_kiocb *req)
{
	__u8 opcode = BPF_CORE_READ(req, opcode);	/* 0 where there is no request */

	return opcode == IORING_OP_OPENAT || opcode == IORING_OP_OPENAT2;
}

HANDLER("raw_tp/io_uring_submit_req", ring_asked, struct io_kiocb *req)
{
	const struct io_open *open = (const void *)req + bpf_core_field_offset(struct io_kiocb, cmd);
	struct ring_open *ring;
	struct text *text;

	if (!is_open(req) || !eunomia_wants(eunomia_cgroup()))
		return;
	text = text_of(&open_text);
	if (!text || BPF_CORE_READ(req, flags) & CQE_SKIP) {
		stream_lost(open);
		return;
	}
	ring = (void *)&text->bytes[TEXT_MIDDLE];
	ring->asked.start = bpf_ktime_get_ns();
	ring->asked.path = NULL;
	ring->asked.dirfd = BPF_CORE_READ(open, dfd);
	ring->asked.flags = BPF_CORE_READ(open, how.flags) & ~O_LARGEFILE;
	ring->asked.rooted = BPF_CORE_READ(open, how.resolve) & RESOLVE_IN_ROOT;
	ring->asked.kept = true;
	ring->asked.direct = BPF_CORE_READ(open, file_slot);
	bpf_probe_read_kernel_str(ring->path, PATH_MAX, BPF_CORE_READ(open, filename, name));
	if (bpf_map_update_elem(&ring_opens, &req, ring, BPF_ANY))
		stream_lost(open);
}

HANDLER("raw_tp/io_uring_complete", ring_opened, void *ring_context, struct io_kiocb *req)
{
	struct ring_open *ring;
	struct open_call asked;

	if (!is_open(req))
		return;
	ring = bpf_map_lookup_elem(&ring_opens, &req);
	if (!ring)
		return;
	asked = ring->asked;
	asked.path = ring->path;
	on_exit(bpf_get_current_task_btf(), &asked, BPF_CORE_READ(req, cqe.res));
	bpf_map_delete_elem(&ring_opens, &req);
}
