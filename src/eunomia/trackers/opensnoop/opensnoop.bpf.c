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

/*
 * What is made before the path is, and in front of where that ends. In the map the verifier knows nothing of it, and
 * does not follow each of its values; and on the stack there is no room.
 */
struct open_room {
	struct open_call call;
	struct path root;	/* of the task */
	struct path path;	/* of what was opened, or of the directory that a relative path starts from */
	struct open_key key;
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

static __always_inline struct open_room *room_of(struct text *text)
{
	_Static_assert(sizeof(struct open_room) <= FIXED_ROOM, "paths come before it");
	return (struct open_room *)text->bytes;
}

/* Whether the open was counted behind an equal one; `name` is 0 if no number stands for its path. */
static __always_inline bool counted(struct open_room *room, const struct task_struct *task, __u64 cgroup, __u64 name,
				    __s32 errno, struct coalesced *equal)
{
	struct open_key *key = &room->key;

	key->cgroup = cgroup;
	key->start = task->group_leader->start_time;
	key->name = name;
	key->file = room->path;
	key->root = room->root.dentry;
	key->pid = task->tgid;
	key->uid = task->cred->uid.val;
	key->flags = room->call.flags;
	key->errno = errno;
	__builtin_memcpy(key->comm, task->comm, sizeof(key->comm));
	return name && coalesce(open, equal, key, bpf_ktime_get_ns());
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

/* Of the call that `text` has room for. */
static __always_inline int on_exit(struct text *text, __u64 cgroup, long ret)
{
	const struct task_struct *task = task_current();
	struct open_room *room = room_of(text);
	const struct open_call *call = &room->call;
	bool has_file = ret >= 0 && !call->direct, relative = false;
	struct open_event event = {};
	struct coalesced equal = {};
	__u32 start = TEXT_MIDDLE;
	__u64 copied = 0, length, name;
	long size;

	room->path.mnt = NULL;
	room->path.dentry = NULL;
	task_root(&room->root, task);
	if (has_file) {
		const struct file *file = task_file(task, ret);

		if (file)
			file_path(&room->path, file);
		if (coalesces(open) && room->path.dentry) {
			name = path_identity(&room->path, eunomia_seed);
			if (counted(room, task, cgroup, name, 0, &equal))
				return 0;
		}
	}
	/* read at the end: its page is present now, because the kernel itself has read it */
	size = read_path(&text->bytes[TEXT_MIDDLE], call);
	if (!has_file) {
		relative = size > 1 && (call->rooted || text->bytes[TEXT_MIDDLE] != '/');
		if (relative)
			start_directory(&room->path, task, call->dirfd);
		if (coalesces(open)) {
			name = text_identity(text, size, eunomia_seed + call->rooted + 2 * call->direct);
			if (room->path.mnt)
				name = path_identity(&room->path, name);
			if (counted(room, task, cgroup, name, ret < 0 ? -ret : 0, &equal))
				return 0;
		}
	}
	task_fields(&event, cgroup);
	event.latency_ns = call->start ? event.time - call->start : 0;
	event.flags = call->flags;
	event.errno = ret < 0 ? -ret : 0;
	event.fd = has_file ? ret : -1;
	if (has_file) {
		start = path_prepend(text, TEXT_MIDDLE, &room->path, &room->root);
	} else if (size > 1) {
		if (relative && room->path.mnt) {
			text->bytes[TEXT_MIDDLE - 1] = '/';
			start = path_prepend(text, TEXT_MIDDLE - 1, &room->path, &room->root);
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
	bool at = !syscall_is(call, open) && !syscall_is(call, creat);
	__u64 cgroup = eunomia_cgroup();
	struct open_call *asked;
	struct how how = {};
	struct text *text;

	if (!eunomia_wants(cgroup))
		return;
	text = text_of(&open_text);
	if (!text)
		return;
	asked = &room_of(text)->call;
	asked->dirfd = at ? syscall_arg(call, 0) : AT_FDCWD;
	asked->path = (const char *)(at ? syscall_arg(call, 1) : syscall_arg(call, 0));
	asked->kept = asked->direct = false;
	if (syscall_is(call, openat2)) {
		bpf_probe_read_user(&how, sizeof(how), (const void *)syscall_arg(call, 2));
		asked->flags = how.flags;
	} else if (syscall_is(call, creat)) {
		asked->flags = CREAT_FLAGS;
	} else {
		asked->flags = at ? syscall_arg(call, 2) : syscall_arg(call, 1);
	}
	asked->rooted = how.resolve & RESOLVE_IN_ROOT;
	asked->start = syscall_begun(call);
	on_exit(text, cgroup, call->ret);
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
	struct open_call *asked;
	struct text *text;

	if (!is_open(req))
		return;
	ring = bpf_map_lookup_elem(&ring_opens, &req);
	text = text_of(&open_text);
	if (!ring || !text)
		return;
	asked = &room_of(text)->call;
	*asked = ring->asked;
	asked->path = ring->path;
	on_exit(text, eunomia_cgroup(), BPF_CORE_READ(req, cqe.res));
	bpf_map_delete_elem(&ring_opens, &req);
}
