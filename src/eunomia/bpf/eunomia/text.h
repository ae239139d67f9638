/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * Records with text, built without copying any of it twice.
 *
 * Paths are found from their end, so they are written backwards, from TEXT_MIDDLE down, one before the
 * other; texts that are read forwards (argv, strings of user space) go from TEXT_MIDDLE up; the fixed
 * part is written last, in front. What is between is the record.
 */
#ifndef EUNOMIA_TEXT_H
#define EUNOMIA_TEXT_H

#include <eunomia/kernel.h>
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_core_read.h>
#include <eunomia/stream.h>
#include <eunomia/coalesce.h>

#define NAME_ROOM 256			/* NAME_MAX and its slash */
#define FIXED_ROOM 256			/* for a record's fixed part */
#define PATH_MAX 4096
#define UNREACHABLE "(unreachable)"	/* before a path that is not below the task's root, as in getcwd(2) */
#define DELETED " (deleted)"		/* after a removed file, as in /proc/PID/fd */
#define TEXT_LENGTH(text) (sizeof(text) - 1)
/* longer paths are cut in front, and begin with "..." */
#define PATH_ROOM (PATH_MAX + NAME_ROOM + TEXT_LENGTH(UNREACHABLE) + TEXT_LENGTH(DELETED) + 9)
#define TEXT_MIDDLE (2 * PATH_ROOM + FIXED_ROOM)
#define TEXT_TAIL (3 * PATH_MAX + 256)
#define PATH_DEPTH (PATH_MAX / 2 + 512)	/* components of the longest path, and mounts crossed */

/*
 * The state of a walk is in the map too: the verifier then knows nothing of it, so every step
 * looks the same to it, and it does not follow them all.
 */
struct path_walk {
	const struct dentry *dentry, *first, *root_dentry, *mount_root;
	const struct vfsmount *mnt, *root_mnt;
	__u64 at, least;
	__u64 number;
	bool whole, outside;
	char type[16];
};

/* Twice the room in front: to the verifier start and length are independent of each other. */
struct text {
	struct path_walk walk;
	char bytes[2 * TEXT_MIDDLE + TEXT_TAIL];
};

/*
 * A bound that the verifier sees. The compiler makes one comparison of two, of a difference in another register
 * than the one that is used; before Linux 6.8 or so the verifier learns nothing from that.
 */
#define BELOW(var, bound) ({ barrier_var(var); (var) < (bound); })
#define ABOVE(var, bound) ({ barrier_var(var); (var) > (bound); })

/* One for each program that uses it: no program runs twice on a CPU at the same time. */
#define TEXT(name_) \
	struct { \
		__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY); \
		__uint(max_entries, 1); \
		__type(key, __u32); \
		__type(value, struct text); \
	} name_ SEC(".maps")

static __always_inline struct text *text_of(void *map)
{
	__u32 zero = 0;

	return bpf_map_lookup_elem(map, &zero);
}

/*
 * Reads a string and its NUL from user space; returns their length, negative where it is not to be read.
 * Up to Linux 6.12 at least, the kernel's own helper returns 0 for an empty string instead of 1.
 */
static __always_inline long read_user_string(void *to, __u32 room, const char *from)
{
	long size = bpf_probe_read_user_str(to, room, from);

	return size ? size : 1;
}

/* What a step needs of a dentry, in one read where its members stand side by side, as they always have. */
struct dentry_view {
	const void *hashed;	/* NULL where it was removed */
	const struct dentry *parent;
	__u32 hash, len;
	const unsigned char *name;
};

static __always_inline void dentry_read(struct dentry_view *view, const struct dentry *dentry)
{
	const __u32 hashed = bpf_core_field_offset(struct dentry, d_hash) +
			     bpf_core_field_offset(struct hlist_bl_node, pprev);

	if (kernel_has(dentry)) {
		dentry = kernel_struct(dentry, dentry);
		view->hashed = dentry->d_hash.pprev;
		view->parent = dentry->d_parent;
		view->hash = dentry->d_name.hash;
		view->len = dentry->d_name.len;
		view->name = dentry->d_name.name;
		return;
	}
	if (bpf_core_field_offset(struct dentry, d_parent) == hashed + 8 &&
	    bpf_core_field_offset(struct dentry, d_name) == hashed + 16 &&
	    bpf_core_field_offset(struct qstr, len) == 4 && bpf_core_field_offset(struct qstr, name) == 8) {
		bpf_probe_read_kernel(view, sizeof(*view), (const void *)dentry + hashed);
		return;
	}
	view->hashed = BPF_CORE_READ(dentry, d_hash.pprev);
	view->parent = BPF_CORE_READ(dentry, d_parent);
	view->hash = BPF_CORE_READ(dentry, d_name.hash);
	view->len = BPF_CORE_READ(dentry, d_name.len);
	view->name = BPF_CORE_READ(dentry, d_name.name);
}

static long path_step(__u32 index, struct text **ctx)
{
	struct text *text = *ctx;
	const struct dentry *dentry = text->walk.dentry;
	const struct vfsmount *mnt = text->walk.mnt;
	struct dentry_view view;
	bool pseudo, first = dentry == text->walk.first;
	__u64 at = text->walk.at, len;

	if (dentry == text->walk.root_dentry && mnt == text->walk.root_mnt) {
		text->walk.whole = true;
		return 1;
	}
	if (dentry == text->walk.mount_root) {
		const struct mount *mount = (const void *)mnt - bpf_core_field_offset(struct mount, mnt);
		const struct mount *parent = BPF_CORE_READ(mount, mnt_parent);

		if (parent == mount) {	/* the end of this tree of mounts, and no root was on the way */
			text->walk.whole = text->walk.outside = true;
			return 1;
		}
		mnt = (const void *)parent + bpf_core_field_offset(struct mount, mnt);
		text->walk.dentry = BPF_CORE_READ(mount, mnt_mountpoint);
		text->walk.mnt = mnt;
		text->walk.mount_root = BPF_CORE_READ(mnt, mnt_root);
		return 0;
	}
	dentry_read(&view, dentry);
	if (!view.parent)
		return 1;	/* it could not be read: "..." says that there was more */
	/* no file system shows it: a memfd, a pipe; its name is all there is */
	pseudo = view.parent == dentry;
	if (pseudo && !first) {	/* a directory that was moved out of what is mounted there */
		text->walk.whole = text->walk.outside = true;
		return 1;
	}
	len = view.len;
	if (len > NAME_ROOM - 1)
		len = NAME_ROOM - 1;
	if (BELOW(at, FIXED_ROOM + NAME_ROOM) || ABOVE(at, TEXT_MIDDLE) || at < text->walk.least + NAME_ROOM)
		return 1;	/* longer than any path that can be named */
	if (first && !view.hashed && !pseudo) {
		at -= TEXT_LENGTH(DELETED);
		__builtin_memcpy(&text->bytes[at], DELETED, TEXT_LENGTH(DELETED));
	}
	at -= len;
	bpf_probe_read_kernel(&text->bytes[at], len, view.name);
	if (!pseudo)
		text->bytes[--at] = '/';
	text->walk.at = at;
	text->walk.dentry = view.parent;
	text->walk.whole = pseudo;
	return pseudo;
}

#define PATH_NAMES 16	/* that path_identity() takes */

/*
 * A number for a path by its names up to the root of its mount, begun with `hash`; two paths that look different have
 * different ones. 0 where there are more names than it takes, or none. `path` is in a map: what the verifier knows to be
 * an address cannot be part of a number.
 */
static __always_inline __u64 path_identity(const struct path *path, __u64 hash)
{
	hash = coalesce_mix(hash, (__u64)path->mnt);
	if (kernel_has(dentry)) {
		const struct dentry *dentry = kernel_struct(dentry, path->dentry);

		/* or removed, and shown as such */
		hash = coalesce_mix(hash, dentry->d_inode->i_generation + !dentry->d_hash.pprev);
		for (int i = 0; i < PATH_NAMES; i++) {
			const struct dentry *parent = dentry->d_parent;

			hash = coalesce_mix(hash, dentry->d_inode->i_ino) +
			       ((__u64)dentry->d_name.len << 32 | dentry->d_name.hash);
			if (parent == dentry)
				return i ? coalesce_mix(hash, i) : 0;
			dentry = parent;
		}
	} else {
		const struct dentry *dentry = path->dentry;
		struct dentry_view view;

		for (int i = 0; i < PATH_NAMES; i++) {
			dentry_read(&view, dentry);
			hash = coalesce_mix(hash, (__u64)dentry) + ((__u64)view.len << 32 | view.hash);
			if (!i && !view.hashed)
				hash++;
			if (view.parent == dentry)
				return i ? coalesce_mix(hash, i) : 0;
			dentry = view.parent;
		}
	}
	return 0;
}

static long identity_step(__u32 index, struct text **ctx)
{
	struct text *text = *ctx;
	__u64 at = TEXT_MIDDLE + 8 * (__u64)index;

	if (ABOVE(at, TEXT_MIDDLE + PATH_MAX))
		return 1;
	text->walk.number = coalesce_mix(text->walk.number, *(__u64 *)&text->bytes[at]);
	return 0;
}

/* A number for the `size` bytes from TEXT_MIDDLE on, begun with `hash`. The eight bytes behind them are cleared. */
static __always_inline __u64 text_identity(struct text *text, __u64 size, __u64 hash)
{
	if (ABOVE(size, PATH_MAX))
		return 0;
	__builtin_memset(&text->bytes[TEXT_MIDDLE + size], 0, 8);
	text->walk.number = coalesce_mix(hash, size);
	bpf_loop((size + 7) / 8, identity_step, &text, 0);
	return text->walk.number;
}

static long digit_step(__u32 index, struct text **ctx)
{
	struct text *text = *ctx;
	__u64 at = text->walk.at, number = text->walk.number;

	if (BELOW(at, FIXED_ROOM + 1) || ABOVE(at, TEXT_MIDDLE))
		return 1;
	text->bytes[--at] = '0' + number % 10;
	text->walk.at = at;
	text->walk.number = number / 10;
	return number < 10;
}

/* What has no name either, a pipe or a namespace, is named as in /proc/PID/fd: "pipe:[4711]". */
static __noinline int nameless_prepend(struct text *text)
{
	const struct dentry *dentry = text->walk.dentry;
	const struct vfsmount *mnt = text->walk.mnt;
	__u64 at = text->walk.at;
	long len;

	if (BELOW(at, FIXED_ROOM + 1) || ABOVE(at, TEXT_MIDDLE))
		return 0;
	text->bytes[--at] = ']';
	text->walk.at = at;
	text->walk.number = BPF_CORE_READ(dentry, d_inode, i_ino);
	bpf_loop(20, digit_step, &text, 0);
	len = bpf_probe_read_kernel_str(text->walk.type, sizeof(text->walk.type), BPF_CORE_READ(mnt, mnt_sb, s_type, name));
	at = text->walk.at;
	if (BELOW(len, 4) || ABOVE(len, 16) || BELOW(at, FIXED_ROOM + 32) || ABOVE(at, TEXT_MIDDLE))
		return 0;
	text->bytes[at - 1] = '[';
	text->bytes[at - 2] = ':';
	len -= 3;	/* its NUL, and the "fs" of "pipefs" */
	at -= 2 + len;
	bpf_probe_read_kernel(&text->bytes[at], len, text->walk.type);
	text->walk.at = at;
	return 0;
}

/*
 * Writes the path of (mnt, dentry), as seen from a task's root directory, before `at`; returns where it
 * starts. What is not below that root has UNREACHABLE in front and its path from where its own tree of
 * mounts begins: a directory that a descriptor or the cwd leads to from outside a chroot or a container, of
 * another mount namespace, or of a mount that hangs nowhere. Loops in the kernel (bpf_loop, since 5.17):
 * unrolled, it would be too long for the verifier.
 */
__attribute__((noinline, weak)) __u32 path_prepend(struct text *text, __u32 at, const struct path *path,
						   const struct path *root)
{
	const struct vfsmount *mnt;
	__u64 start;

	if (!text || !path || !root)
		return at;
	mnt = path->mnt;
	if (!path->dentry || !mnt)
		return at;
	text->walk.dentry = text->walk.first = path->dentry;
	text->walk.mnt = mnt;
	text->walk.mount_root = BPF_CORE_READ(mnt, mnt_root);
	text->walk.root_dentry = root->dentry;
	text->walk.root_mnt = root->mnt;
	text->walk.at = at;
	text->walk.least = at - PATH_ROOM;
	text->walk.whole = text->walk.outside = false;
	bpf_loop(PATH_DEPTH, path_step, &text, 0);
	start = text->walk.at;
	/* no name, or "/", and no directory that has one: not the root of a mount either */
	if (at - start <= 1 && BPF_CORE_READ(path->dentry, d_parent) == path->dentry &&
	    path->dentry != BPF_CORE_READ(mnt, mnt_root)) {
		text->walk.at = at;
		if (path->dentry != BPF_CORE_READ(mnt, mnt_sb, s_root)) {
			nameless_prepend(text);
			return text->walk.at;
		}
		text->walk.outside = true;	/* a file system's root, of which only a part is mounted */
		start = at;
	}
	if (BELOW(start, FIXED_ROOM + TEXT_LENGTH(UNREACHABLE) + 1) || ABOVE(start, TEXT_MIDDLE))
		return start;
	if (!text->walk.whole) {
		start -= 3;
		text->bytes[start] = text->bytes[start + 1] = text->bytes[start + 2] = '.';
	} else if (start == at) {
		text->bytes[--start] = '/';	/* the root itself */
	}
	if (text->walk.outside && root->dentry) {
		start -= TEXT_LENGTH(UNREACHABLE);
		__builtin_memcpy(&text->bytes[start], UNREACHABLE, TEXT_LENGTH(UNREACHABLE));
	}
	return start;
}

/* Reads a struct path whole: it has had two members ever since it was made. */
#define path_read(ret, container, type, member) \
	bpf_probe_read_kernel(ret, sizeof(struct path), (const void *)(container) + bpf_core_field_offset(type, member))

/* The root directory of a task: paths inside a container start there. */
static __always_inline void task_root(struct path *ret, const struct task_struct *task)
{
	if (kernel_has(task_struct)) {
		const struct fs_struct *fs = kernel_struct(task_struct, task)->fs;

		ret->mnt = fs->root.mnt;
		ret->dentry = fs->root.dentry;
	} else {
		path_read(ret, BPF_CORE_READ(task, fs), struct fs_struct, root);
	}
}

static __always_inline void task_cwd(struct path *ret, const struct task_struct *task)
{
	if (kernel_has(task_struct)) {
		const struct fs_struct *fs = kernel_struct(task_struct, task)->fs;

		ret->mnt = fs->pwd.mnt;
		ret->dentry = fs->pwd.dentry;
	} else {
		path_read(ret, BPF_CORE_READ(task, fs), struct fs_struct, pwd);
	}
}

static __always_inline void file_path(struct path *ret, const struct file *file)
{
	if (kernel_has(file)) {
		file = kernel_struct(file, file);
		ret->mnt = file->f_path.mnt;
		ret->dentry = file->f_path.dentry;
	} else {
		path_read(ret, file, struct file, f_path);
	}
}

/* The open file behind a descriptor of a task; NULL where there is none. */
static __always_inline struct file *task_file(const struct task_struct *task, __u32 fd)
{
	const struct fdtable *table;
	struct file *file = NULL;

	if (kernel_has(task_struct)) {
		table = kernel_struct(task_struct, task)->files->fdt;
		if (fd < table->max_fds)
			bpf_probe_read_kernel(&file, sizeof(file), table->fd + fd);
	} else {
		table = BPF_CORE_READ(task, files, fdt);
		if (fd < BPF_CORE_READ(table, max_fds))
			bpf_probe_read_kernel(&file, sizeof(file), BPF_CORE_READ(table, fd) + fd);
	}
	return file;
}

/*
 * Puts the fixed part in front of text that starts at `from` and ends at `to`, and sends it all.
 * stream_text(open, text, &event, from, to)
 */
#define stream_text(name_, text_, fixed_, from_, to_) \
	({ \
		__u32 start_ = (from_), end_ = (to_); \
		long sent_ = -1; \
		if (BELOW(start_, FIXED_ROOM) || ABOVE(start_, TEXT_MIDDLE) || BELOW(end_, TEXT_MIDDLE) || \
		    ABOVE(end_, TEXT_MIDDLE + TEXT_TAIL)) { \
			stream_lost(name_); \
		} else { \
			start_ -= sizeof(*(fixed_)); \
			_Static_assert(sizeof(*(fixed_)) <= FIXED_ROOM, "no room for the fixed part"); \
			bpf_probe_read_kernel(&(text_)->bytes[start_], sizeof(*(fixed_)), fixed_); \
			sent_ = stream_output(name_, &(text_)->bytes[start_], end_ - start_); \
		} \
		sent_; \
	})

#endif
