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
	duration_ns_t latency_ns none(0) doc("time that the call took; none if its start was not recorded");
	__s32 fd hidden doc("file descriptor; -1 where there is none");
	COALESCED_FIELDS;
} doc("a file was opened, or could not be");

STREAM(open, struct open_event, 4 << 20);
TEXT(open_text);

/* Opens are equal if all of this is. */
struct open_key {
	__u64 cgroup, start;
	__u64 name;		/* a number for the path: path_identity() */
	struct path file;	/* that was opened, or the directory that a failed open starts from */
	const struct dentry *root;
	__u32 pid, uid;
	__u32 flags;
	__s32 errno;
	char comm[16];
} doc("process, command name, user, file, flags and result");

COALESCE(open, struct open_key, 16384);

/* What was asked for; `start` is 0 if it was not recorded. */
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

/* The directory that a relative path starts from; nothing if there is none. */
static __always_inline void start_directory(struct path *ret, const struct task_struct *task, __s32 dirfd)
{
	if (dirfd == AT_FDCWD) {
		task_cwd(ret, task);
	} else {
		struct file *file = task_file(task, dirfd);

		if (file)
			file_path(ret, file);
	}
}

/* Whether the open was counted behind an equal one; `name` is 0 if no number stands for its path. */
static __always_inline bool counted(const struct task_struct *task, __u64 cgroup, const struct dentry *root,
				    const struct path *file, __u64 name, __u32 flags, __s32 errno,
				    struct coalesced *equal)
{
	struct open_key key = {
		.cgroup = cgroup,
		.start = task->pid == task->tgid ? task->start_time : task_start(task),
		.name = name,
		.file = *file,
		.root = root,
		.pid = task->tgid,
		.uid = bpf_get_current_uid_gid(),
		.flags = flags,
		.errno = errno,
	};

	__builtin_memcpy(key.comm, task->comm, sizeof(key.comm));
	return name && coalesce(open, equal, &key, bpf_ktime_get_ns());
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

static __always_inline int on_exit(const struct task_struct *task, const struct open_call *call, __u64 cgroup,
				   long ret)
{
	/*
	 * Direct loads, because the verifier knows the type of `task`: bpf_probe_read_kernel() would cost more for each
	 * open. Each load from the task itself costs the verifier milliseconds, because it searches the kernel's BTF.
	 */
	const struct fs_struct *fs = task->fs;
	struct path root = { .mnt = fs->root.mnt, .dentry = fs->root.dentry }, path = {};
	bool has_file = ret >= 0 && !call->direct, relative = false;
	struct open_event event = {};
	struct coalesced equal = {};
	struct file *file = NULL;
	__u32 start = TEXT_MIDDLE;
	struct text *text;
	__u64 copied = 0, length, name = 0;
	long size;

	if (has_file) {
		const struct files_struct *files = task->files;

		file = small_file(files, ret);
		if (file) {
			path.mnt = file->f_path.mnt;
			path.dentry = file->f_path.dentry;
			if (coalesces(open))
				name = file_identity(file, eunomia_seed);
		} else {
			bpf_probe_read_kernel(&file, sizeof(file), files->fdt->fd + ret);
			if (file)
				file_path(&path, file);
			if (coalesces(open) && file)
				name = path_identity(&path, eunomia_seed);
		}
		if (coalesces(open) && counted(task, cgroup, root.dentry, &path, name, call->flags, 0, &equal))
			return 0;
	}
	text = text_of(&open_text);
	if (!text)
		return 0;
	/* read at the end: its page is present now, because the kernel itself has read it */
	size = read_path(&text->bytes[TEXT_MIDDLE], call);
	if (!has_file) {
		relative = size > 1 && (call->rooted || text->bytes[TEXT_MIDDLE] != '/');
		if (relative)
			start_directory(&path, task, call->dirfd);
		if (coalesces(open)) {
			name = text_identity(text, size, eunomia_seed + call->rooted + 2 * call->direct);
			if (path.mnt)
				name = path_identity(&path, name);
			if (counted(task, cgroup, root.dentry, &path, name, call->flags, ret < 0 ? -ret : 0, &equal))
				return 0;
		}
	}
	task_fields(&event, cgroup);
	event.latency_ns = call->start ? event.time - call->start : 0;
	event.flags = call->flags;
	event.errno = ret < 0 ? -ret : 0;
	event.fd = has_file ? ret : -1;
	if (has_file) {
		if (file)
			start = path_prepend(text, TEXT_MIDDLE, &path, &root);
	} else if (size > 1) {
		if (relative && path.mnt) {
			text->bytes[TEXT_MIDDLE - 1] = '/';
			start = path_prepend(text, TEXT_MIDDLE - 1, &path, &root);
		}
		if (!relative || start != TEXT_MIDDLE)
			event.resolved.len = size - 1;	/* the path, after its directory */
		length = size - 1;
		barrier_var(length);
		if (call->rooted && length < PATH_MAX) {	/* the requested path follows the resolved one */
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
	coalesced_fields(&event, &equal);
	coalesced_sent(&equal, stream_text(open, text, &event, start, TEXT_MIDDLE + copied + size - 1));
	return 0;
}

SYSCALL_EXIT(opened, open, creat, openat, openat2)
{
	struct open_call asked = { .dirfd = AT_FDCWD, .flags = CREAT_FLAGS };
	__u64 cgroup = eunomia_cgroup();
	struct how how = {};
	bool at = !syscall_is(call, open) && !syscall_is(call, creat);

	if (!eunomia_wants(cgroup))
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
	on_exit(call->task, &asked, cgroup, call->ret);
}

/*
 * By io_uring: what is asked for is known when a request is handed in, and what becomes of it when it is over, in a
 * call of io_uring_enter(2) or in a thread of the kernel's that belongs to the process.
 */
#define IORING_OP_OPENAT 18
#define IORING_OP_OPENAT2 28
#define CQE_SKIP (1 << 6)	/* REQ_F_CQE_SKIP: success makes no completion */
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
	on_exit(bpf_get_current_task_btf(), &asked, eunomia_cgroup(), BPF_CORE_READ(req, cqe.res));
	bpf_map_delete_elem(&ring_opens, &req);
}
