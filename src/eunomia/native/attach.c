// SPDX-License-Identifier: BSD-2-Clause
/* Attaching programs where libbpf's own calls do not suffice. */
#define _GNU_SOURCE
#include "native.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/mount.h>
#include <linux/perf_event.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <unistd.h>

/*
 * Tracepoint ids are read from tracefs. Where it is not mounted, a mount of our own is made that hangs
 * in no directory: it is visible to no process, and goes away with its descriptor.
 */
static int tracefs(void)
{
	static int dir = -1;
	int context;

	if (dir >= 0)
		return dir;
	dir = open("/sys/kernel/tracing/events", O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (dir < 0)
		dir = open("/sys/kernel/debug/tracing/events", O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (dir >= 0)
		return dir;
	context = syscall(SYS_fsopen, "tracefs", FSOPEN_CLOEXEC);
	if (context < 0)
		return -1;
	if (!syscall(SYS_fsconfig, context, FSCONFIG_CMD_CREATE, NULL, NULL, 0)) {
		int mount = syscall(SYS_fsmount, context, FSMOUNT_CLOEXEC, 0);

		if (mount >= 0) {
			dir = openat(mount, "events", O_PATH | O_DIRECTORY | O_CLOEXEC);
			close(mount);
		}
	}
	close(context);
	return dir;
}

long eu_tracepoint_id(const char *category, const char *name)
{
	char path[256], text[32] = "";
	int dir = tracefs(), fd;
	ssize_t length;

	if (dir < 0)
		return -1;
	if (snprintf(path, sizeof(path), "%s/%s/id", category, name) >= (int)sizeof(path)) {
		errno = ENOENT;
		return -1;
	}
	fd = openat(dir, path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return -1;
	length = read(fd, text, sizeof(text) - 1);
	close(fd);
	return length > 0 ? strtol(text, NULL, 10) : -1;
}

int eu_tracepoint_exists(const char *category, const char *name)
{
	return eu_tracepoint_id(category, name) >= 0;
}

/* The link owns the event's descriptor, which may be -1: then errno stays as it is. */
static struct bpf_link *link_event(struct bpf_program *prog, int fd)
{
	struct bpf_link *link;

	if (fd < 0)
		return NULL;
	link = bpf_program__attach_perf_event(prog, fd);
	if (!link) {
		int err = errno;

		close(fd);
		errno = err;
	}
	return link;
}

/* Opens the event of a tracepoint, by its id, for programs to hang on. Returns -1 and sets errno if it is refused. */
int eu_open_tracepoint(long id)
{
	struct perf_event_attr attr = {
		.type = PERF_TYPE_TRACEPOINT,
		.size = sizeof(attr),
		.config = id,
		.sample_period = 1,
		.wakeup_events = 1,
	};

	return syscall(SYS_perf_event_open, &attr, -1, 0, -1, PERF_FLAG_FD_CLOEXEC);
}

struct bpf_link *eu_attach_tracepoint(struct bpf_program *prog, const char *category, const char *name)
{
	long id = eu_tracepoint_id(category, name);

	return id < 0 ? NULL : link_event(prog, eu_open_tracepoint(id));
}

/* Attaches an iterator to what it goes through: a map, a cgroup and those below it, a process; 0 for none. */
struct bpf_link *eu_attach_iter(struct bpf_program *prog, int map_fd, int cgroup_fd, uint32_t pid)
{
	union bpf_iter_link_info info = {};
	LIBBPF_OPTS(bpf_iter_attach_opts, opts, .link_info = &info, .link_info_len = sizeof(info));

	if (map_fd) {
		info.map.map_fd = map_fd;
	} else if (cgroup_fd) {
		info.cgroup.order = BPF_CGROUP_ITER_DESCENDANTS_PRE;
		info.cgroup.cgroup_fd = cgroup_fd;
	} else if (pid) {
		info.task.pid = pid;
	} else {
		return bpf_program__attach_iter(prog, NULL);
	}
	return bpf_program__attach_iter(prog, &opts);
}

/* Sampling by an event of perf's: at each `rate`th, or `rate` times a second where `freq` is set. */
struct bpf_link *eu_attach_sampling(struct bpf_program *prog, int cpu, uint32_t type, uint64_t config,
				    uint64_t rate, int freq)
{
	struct perf_event_attr attr = {
		.type = type,
		.config = config,
		.size = sizeof(attr),
		.sample_freq = rate,	/* a union with sample_period */
		.freq = freq,
	};

	return link_event(prog, syscall(SYS_perf_event_open, &attr, -1, cpu, -1, PERF_FLAG_FD_CLOEXEC));
}

struct bpf_link *eu_attach_uprobe(struct bpf_program *prog, int retprobe, int pid, const char *binary,
				  const char *function, size_t offset)
{
	LIBBPF_OPTS(bpf_uprobe_opts, opts, .retprobe = retprobe, .func_name = *function ? function : NULL);

	return bpf_program__attach_uprobe_opts(prog, pid, binary, offset, &opts);
}

struct bpf_link *eu_attach_kprobe(struct bpf_program *prog, int retprobe, const char *function, size_t offset)
{
	LIBBPF_OPTS(bpf_kprobe_opts, opts, .retprobe = retprobe, .offset = offset);

	return bpf_program__attach_kprobe_opts(prog, function, &opts);
}

struct bpf_link *eu_attach_ksyscall(struct bpf_program *prog, int retprobe, const char *name)
{
	LIBBPF_OPTS(bpf_ksyscall_opts, opts, .retprobe = retprobe);

	return bpf_program__attach_ksyscall(prog, name, &opts);
}

/* A link to a network device: its descriptor, or a negative error. The kernel takes it off with the last descriptor. */
int eu_link_to_device(int prog_fd, int device, int attach_type, uint32_t flags)
{
	LIBBPF_OPTS(bpf_link_create_opts, opts, .flags = flags);

	return bpf_link_create(prog_fd, device, attach_type, &opts);
}

/*
 * A filter of tc's own, for kernels before 6.6, which have no links for it. `made` says whether its qdisc was made
 * for it; `handle` and `priority` are what eu_tc_detach() takes. Returns 0 or a negative error.
 */
int eu_tc_attach(int prog_fd, int device, int egress, uint32_t *handle, uint32_t *priority, int *made)
{
	LIBBPF_OPTS(bpf_tc_hook, hook, .ifindex = device, .attach_point = egress ? BPF_TC_EGRESS : BPF_TC_INGRESS);
	LIBBPF_OPTS(bpf_tc_opts, opts, .prog_fd = prog_fd);
	int err = bpf_tc_hook_create(&hook);

	if (err && err != -EEXIST)
		return err;
	*made = !err;
	err = bpf_tc_attach(&hook, &opts);
	*handle = opts.handle;
	*priority = opts.priority;
	if (err && *made) {
		hook.attach_point = BPF_TC_INGRESS | BPF_TC_EGRESS;
		bpf_tc_hook_destroy(&hook);
	}
	return err;
}

/* Puts another program in a filter's place. Returns 0 or a negative error. */
int eu_tc_replace(int prog_fd, int device, int egress, uint32_t handle, uint32_t priority)
{
	LIBBPF_OPTS(bpf_tc_hook, hook, .ifindex = device, .attach_point = egress ? BPF_TC_EGRESS : BPF_TC_INGRESS);
	LIBBPF_OPTS(bpf_tc_opts, opts, .prog_fd = prog_fd, .handle = handle, .priority = priority,
		    .flags = BPF_TC_F_REPLACE);

	return bpf_tc_attach(&hook, &opts);
}

void eu_tc_detach(int device, int egress, uint32_t handle, uint32_t priority, int made)
{
	LIBBPF_OPTS(bpf_tc_hook, hook, .ifindex = device, .attach_point = egress ? BPF_TC_EGRESS : BPF_TC_INGRESS);
	LIBBPF_OPTS(bpf_tc_opts, opts, .handle = handle, .priority = priority);

	bpf_tc_detach(&hook, &opts);
	if (made) {
		hook.attach_point = BPF_TC_INGRESS | BPF_TC_EGRESS;
		bpf_tc_hook_destroy(&hook);
	}
}
