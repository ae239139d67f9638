// SPDX-License-Identifier: BSD-2-Clause
#define _GNU_SOURCE
#include "native.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/membarrier.h>
#include <linux/mount.h>
#include <linux/perf_event.h>
#include <malloc.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

/* What libbpf says, to each thread for itself: kept, never printed; Python decides what of it a user should see. */

static __thread char *log_text;
static __thread size_t log_size, log_room;
static const size_t log_limit = 32 << 20;

static int log_line(enum libbpf_print_level level, const char *format, va_list args)
{
	va_list again;
	int length;

	if (level == LIBBPF_DEBUG)
		return 0;
	va_copy(again, args);
	length = vsnprintf(NULL, 0, format, again);
	va_end(again);
	if (length < 0 || log_size + length + 1 > log_limit)
		return 0;
	if (log_size + length + 1 > log_room) {
		size_t room = (log_size + length + 1) * 2;
		char *text = realloc(log_text, room);

		if (!text)
			return 0;
		log_text = text;
		log_room = room;
	}
	log_size += vsnprintf(log_text + log_size, length + 1, format, args);
	return length;
}

void eu_log_start(void)
{
	free(log_text);
	log_text = NULL;
	log_size = log_room = 0;
	libbpf_set_print(log_line);
}

/* Returns the log's length; copies it, and forgets it, when `size` suffices. */
size_t eu_log_take(char *out, size_t size)
{
	size_t length = log_size;

	if (length > size)
		return length;
	if (length)
		memcpy(out, log_text, length);
	free(log_text);
	log_text = NULL;
	log_size = log_room = 0;
	return length;
}

struct bpf_object *eu_open(const void *data, size_t size, const char *name, const char *kernel_btf)
{
	LIBBPF_OPTS(bpf_object_open_opts, opts, .object_name = name, .btf_custom_path = kernel_btf);

	return bpf_object__open_mem(data, size, &opts);
}

/*
 * The part of the kernel's BTF that an object's relocations can ask for. libbpf 1.1 looks through all
 * 100,000 types anew for each struct that an object names, a millisecond each time: of these few it makes
 * nothing. Types keep their names, sizes and members, but pointers lead nowhere, and ids are others: not
 * for objects that ask for the ids of kernel types.
 */
struct reduction {
	const struct btf *from;
	struct btf *to;
	uint32_t *done;		/* id in `from` -> id in `to`, 0 where not taken yet */
};

static struct btf *kernel_btf;

void eu_forget_kernel_btf(void)
{
	btf__free(kernel_btf);
	kernel_btf = NULL;
}

static int have_kernel_btf(void)
{
	if (!kernel_btf)
		kernel_btf = btf__parse("/sys/kernel/btf/vmlinux", NULL);
	return kernel_btf != NULL;
}

/* What a name of one of the kernel's enumerations stands for; -1 where it has no such name. */
int eu_kernel_enum(const char *type, const char *name)
{
	const struct btf_type *found;
	int id;

	if (!have_kernel_btf())
		return -1;
	id = btf__find_by_name_kind(kernel_btf, type, BTF_KIND_ENUM);
	if (id < 0)
		return -1;
	found = btf__type_by_id(kernel_btf, id);
	for (int i = 0; i < btf_vlen(found); i++)
		if (!strcmp(btf__name_by_offset(kernel_btf, btf_enum(found)[i].name_off), name))
			return btf_enum(found)[i].val;
	return -1;
}

/* The id of one of the kernel's types, by its name and enum BTF_KIND_*; negative where there is none. */
int eu_kernel_type(const char *name, uint32_t kind)
{
	return have_kernel_btf() ? btf__find_by_name_kind(kernel_btf, name, kind) : -1;
}

/* Where a member stands in one of the kernel's structs, in bytes; negative where there is none. */
int eu_kernel_member(const char *type, const char *name)
{
	const struct btf_type *found;
	int id = eu_kernel_type(type, BTF_KIND_STRUCT);

	if (id < 0)
		return -1;
	found = btf__type_by_id(kernel_btf, id);
	for (int i = 0; i < btf_vlen(found); i++)
		if (!strcmp(btf__name_by_offset(kernel_btf, btf_members(found)[i].name_off), name))
			return btf_member_bit_offset(found, i) / 8;
	return -1;
}

static int reduce(struct reduction *reduction, uint32_t id);

static int reduce_members(struct reduction *reduction, const struct btf_type *type)
{
	const struct btf_member *member = btf_members(type);
	const char *name = btf__name_by_offset(reduction->from, type->name_off);
	int id;

	/* members' types first: a struct's fields must follow it at once */
	for (int i = 0; i < btf_vlen(type); i++)
		if (reduce(reduction, member[i].type) < 0)
			return -1;
	id = btf_is_union(type) ? btf__add_union(reduction->to, name, type->size)
				: btf__add_struct(reduction->to, name, type->size);
	for (int i = 0; i < btf_vlen(type) && id > 0; i++)
		if (btf__add_field(reduction->to, btf__name_by_offset(reduction->from, member[i].name_off),
				   reduce(reduction, member[i].type), btf_member_bit_offset(type, i),
				   btf_member_bitfield_size(type, i)) < 0)
			return -1;
	return id;
}

static int reduce_enum(struct reduction *reduction, const struct btf_type *type)
{
	const struct btf_enum *value = btf_enum(type);
	int id = btf__add_enum(reduction->to, btf__name_by_offset(reduction->from, type->name_off), type->size);

	for (int i = 0; i < btf_vlen(type) && id > 0; i++)
		if (btf__add_enum_value(reduction->to, btf__name_by_offset(reduction->from, value[i].name_off),
					value[i].val) < 0)
			return -1;
	return id;
}

/* Takes a type over, with all that it holds by value; returns its new id, 0 for void, or -1. */
static int reduce(struct reduction *reduction, uint32_t id)
{
	const struct btf_type *type = btf__type_by_id(reduction->from, id);
	const char *name;
	int taken, element;

	if (!id || !type)
		return type ? 0 : -1;
	if (reduction->done[id])
		return reduction->done[id];
	name = btf__name_by_offset(reduction->from, type->name_off);
	switch (btf_kind(type)) {
	case BTF_KIND_INT:
		taken = btf__add_int(reduction->to, name, type->size, btf_int_encoding(type));
		break;
	case BTF_KIND_FLOAT:
		taken = btf__add_float(reduction->to, name, type->size);
		break;
	case BTF_KIND_PTR:
		taken = btf__add_ptr(reduction->to, 0);
		break;
	case BTF_KIND_ARRAY:
		element = reduce(reduction, btf_array(type)->type);
		taken = element < 0 ? -1 : reduce(reduction, btf_array(type)->index_type);
		if (taken > 0)
			taken = btf__add_array(reduction->to, taken, element, btf_array(type)->nelems);
		break;
	case BTF_KIND_STRUCT:
	case BTF_KIND_UNION:
		taken = reduce_members(reduction, type);
		break;
	case BTF_KIND_ENUM:
		taken = reduce_enum(reduction, type);
		break;
	case BTF_KIND_ENUM64:
		taken = btf__add_enum64(reduction->to, name, type->size, btf_kflag(type));
		break;
	case BTF_KIND_TYPEDEF:
	case BTF_KIND_CONST:
	case BTF_KIND_VOLATILE:
	case BTF_KIND_RESTRICT:
	case BTF_KIND_TYPE_TAG:
		taken = reduce(reduction, type->type);
		break;
	default:
		taken = btf__add_fwd(reduction->to, name, BTF_FWD_STRUCT);
	}
	if (taken > 0)
		reduction->done[id] = taken;
	return taken;
}

static int by_name(const void *a, const void *b)
{
	return strcmp(*(const char *const *)a, *(const char *const *)b);
}

/* The names of the structs, unions and enumerations that an object knows, sorted; NULL for want of memory. */
static char **local_names(const struct btf *btf, size_t *ret)
{
	size_t count = btf__type_cnt(btf);
	char **names = calloc(count, sizeof(*names));

	*ret = 0;
	for (size_t id = 1; names && id < count; id++) {
		const struct btf_type *type = btf__type_by_id(btf, id);
		const char *name = btf__name_by_offset(btf, type->name_off), *flavour;

		if (!*name || !(btf_is_composite(type) || btf_is_any_enum(type)))
			continue;
		flavour = strstr(name, "___");	/* of one kernel's struct: libbpf leaves it off, too */
		names[(*ret)++] = strndup(name, flavour ? (size_t)(flavour - name) : strlen(name));
	}
	if (names)
		qsort(names, *ret, sizeof(*names), by_name);
	return names;
}

/* Writes to `fd` what an object needs of the running kernel's BTF. Returns 0, or -1 where it cannot be had. */
int eu_reduced_btf(const struct bpf_object *object, int fd)
{
	const struct btf *local = bpf_object__btf(object);
	struct reduction reduction = {};
	char **names = NULL;
	size_t name_count = 0;
	const void *data;
	__u32 size, count;
	int err = -1;

	if (!have_kernel_btf() || !local)
		return -1;
	count = btf__type_cnt(kernel_btf);
	names = local_names(local, &name_count);
	reduction.from = kernel_btf;
	reduction.to = btf__new_empty();
	reduction.done = calloc(count, sizeof(*reduction.done));
	if (!names || !reduction.to || !reduction.done)
		goto out;
	for (__u32 id = 1; id < count; id++) {
		const struct btf_type *type = btf__type_by_id(kernel_btf, id);
		const char *name;

		if (!(btf_is_composite(type) || btf_is_any_enum(type)) || !type->name_off)
			continue;
		name = btf__name_by_offset(kernel_btf, type->name_off);
		if (bsearch(&name, names, name_count, sizeof(*names), by_name) && reduce(&reduction, id) < 0)
			goto out;
	}
	data = btf__raw_data(reduction.to, &size);
	if (data && !ftruncate(fd, 0) && pwrite(fd, data, size, 0) == (ssize_t)size)
		err = 0;
out:
	for (size_t i = 0; i < name_count; i++)
		free(names[i]);
	free(names);
	free(reduction.done);
	btf__free(reduction.to);
	return err;
}

/* What a global data map will hold when it is loaded; afterwards, still that. */
void *eu_map_memory(struct bpf_map *map, size_t *ret)
{
	return (void *)bpf_map__initial_value(map, ret);
}

static size_t whole_pages(size_t size)
{
	size_t page = sysconf(_SC_PAGESIZE);

	return (size + page - 1) / page * page;
}

/* The live memory of a loaded global data map, shared with the programs; NULL where it cannot be had. */
void *eu_map_mmap(int fd, size_t size)
{
	void *memory = mmap(NULL, whole_pages(size), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);

	return memory == MAP_FAILED ? NULL : memory;
}

void eu_map_munmap(void *memory, size_t size)
{
	munmap(memory, whole_pages(size));
}

int eu_recursion_misses(int prog_fd, uint64_t *ret)
{
	struct bpf_prog_info info = {};
	__u32 size = sizeof(info);
	int err = bpf_obj_get_info_by_fd(prog_fd, &info, &size);

	*ret = err ? 0 : info.recursion_misses;
	return err;
}

/*
 * Writes where the machine code of a program's functions starts and ends. Returns how many there are, of
 * which at most `room` were written; 0 where the kernel does not say, negative where it cannot be asked.
 */
int eu_program_code(int prog_fd, uint64_t *starts, uint64_t *ends, uint32_t room)
{
	struct bpf_prog_info info = {};
	__u32 size = sizeof(info);
	__u32 *lengths = calloc(room, sizeof(*lengths));
	int err;

	if (!lengths)
		return -ENOMEM;
	info.nr_jited_ksyms = info.nr_jited_func_lens = room;
	info.jited_ksyms = (uintptr_t)starts;
	info.jited_func_lens = (uintptr_t)lengths;
	err = bpf_obj_get_info_by_fd(prog_fd, &info, &size);
	for (__u32 i = 0; !err && i < room && i < info.nr_jited_ksyms; i++)
		ends[i] = starts[i] ? starts[i] + lengths[i] : 0;
	free(lengths);
	if (err)
		return -errno;
	return !info.jited_ksyms || !info.jited_func_lens ? 0 : (int)info.nr_jited_ksyms;
}

/*
 * What a helper returns to a program that is run for a trial, which runs in the caller's name: `shift` bits
 * to the right, 32 bits of it. Negative where that may not be done.
 */
static int64_t ask_helper(int helper, int shift)
{
	const struct bpf_insn code[] = {
		{ .code = BPF_JMP | BPF_CALL, .imm = helper },
		{ .code = BPF_ALU64 | BPF_RSH | BPF_K, .dst_reg = BPF_REG_0, .imm = shift },
		{ .code = BPF_JMP | BPF_EXIT },
	};
	LIBBPF_OPTS(bpf_test_run_opts, run);
	int fd = bpf_prog_load(BPF_PROG_TYPE_RAW_TRACEPOINT, "eu_ask", "GPL", code, sizeof(code) / sizeof(*code), NULL);
	int err;

	if (fd < 0)
		return fd;
	err = bpf_prog_test_run_opts(fd, &run);
	close(fd);
	return err ? err : (int64_t)run.retval;
}

/* The caller's process id as the host sees it, and as probes do, from inside a PID namespace too. */
int eu_host_pid(void)
{
	return ask_helper(BPF_FUNC_get_current_pid_tgid, 32);
}

/* The kernel's monotonic clock as probes read it, which no time namespace moves; negative where it may not be had. */
int64_t eu_kernel_time(void)
{
	int64_t high, low, again = ask_helper(BPF_FUNC_ktime_get_ns, 32);

	do {
		high = again;
		low = ask_helper(BPF_FUNC_ktime_get_ns, 0);
		again = ask_helper(BPF_FUNC_ktime_get_ns, 32);
		if (high < 0 || low < 0 || again < 0)
			return -EPERM;
	} while (again != high);	/* the lower half began anew in between */
	return high << 32 | low;
}

/*
 * Tracepoint ids are read from tracefs. Where it is not mounted, a mount of our own is made that hangs
 * in no directory: nobody sees it, and it goes away with its descriptor.
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

static struct bpf_link *attach_event(struct bpf_program *prog, struct perf_event_attr *attr, int pid, int cpu)
{
	int fd = syscall(SYS_perf_event_open, attr, pid, cpu, -1, PERF_FLAG_FD_CLOEXEC);
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

struct bpf_link *eu_attach_tracepoint(struct bpf_program *prog, const char *category, const char *name)
{
	struct perf_event_attr attr = {
		.type = PERF_TYPE_TRACEPOINT,
		.size = sizeof(attr),
		.sample_period = 1,
		.wakeup_events = 1,
	};
	long id = eu_tracepoint_id(category, name);

	if (id < 0)
		return NULL;
	attr.config = id;
	return attach_event(prog, &attr, -1, 0);
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

	return attach_event(prog, &attr, -1, cpu);
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

/*
 * A consumer of BPF ring buffers. libbpf's own calls back for each record and maps the data twice, in a
 * row; ours copies records into two buffers, and maps the data once, which halves what it costs in
 * resident memory.
 */
#define PREFETCH 1024	/* bytes ahead of the record that is read */

struct eu_ring {
	unsigned long *consumer;
	const unsigned long *producer;
	const char *data;
	size_t size;		/* bytes of data, a power of two */
	size_t fixed;		/* bytes of a record's fixed part, 0 for records of unknown shape */
	size_t strings[EU_MAX_STRINGS];	/* where in the fixed part str_t stands */
	size_t string_count;
	uint32_t paths;		/* which of them are paths, a bit each */
};

/*
 * Lets malloc(3) keep what batches were in: it would ask the kernel for such sizes anew each time, and a
 * fresh page costs more than what is written into it.
 */
void eu_keep_memory(void)
{
	mallopt(M_MMAP_THRESHOLD, 4 << 20);
	mallopt(M_TRIM_THRESHOLD, 4 << 20);
}

struct eu_ring *eu_ring_open(int fd, size_t size)
{
	size_t page = sysconf(_SC_PAGESIZE);
	struct eu_ring *ring = calloc(1, sizeof(*ring));
	void *consumer, *producer;

	if (!ring)
		return NULL;
	consumer = mmap(NULL, page, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (consumer == MAP_FAILED)
		goto no_consumer;
	producer = mmap(NULL, page + size, PROT_READ, MAP_SHARED, fd, page);
	if (producer == MAP_FAILED)
		goto no_producer;
	ring->consumer = consumer;
	ring->producer = producer;
	ring->data = (const char *)producer + page;
	ring->size = size;
	return ring;

no_producer:
	munmap(consumer, page);
no_consumer:
	free(ring);
	return NULL;
}

void eu_ring_close(struct eu_ring *ring)
{
	size_t page = sysconf(_SC_PAGESIZE);

	munmap(ring->consumer, page);
	munmap((void *)ring->producer, page + ring->size);
	free(ring);
}

void eu_ring_layout(struct eu_ring *ring, size_t fixed, const uint32_t *strings, size_t count, uint32_t paths)
{
	ring->fixed = fixed;
	ring->paths = paths;
	ring->string_count = count < EU_MAX_STRINGS ? count : EU_MAX_STRINGS;
	for (size_t i = 0; i < ring->string_count; i++)
		ring->strings[i] = strings[i];
}

size_t eu_ring_waiting(const struct eu_ring *ring)
{
	return __atomic_load_n(ring->producer, __ATOMIC_ACQUIRE) - *ring->consumer;
}

static void ring_copy(const struct eu_ring *ring, unsigned long at, char *out, size_t size)
{
	size_t offset = at & (ring->size - 1), first = ring->size - offset;

	if (first >= size) {
		memcpy(out, ring->data + offset, size);
		return;
	}
	memcpy(out, ring->data + offset, first);
	memcpy(out + first, ring->data, size - first);
}

/* A record of unknown shape becomes its size and where in the heap it stands. */
struct unknown_record {
	uint32_t size;
	uint32_t offset, length;
};

struct sink {
	char *data, *heap;
	size_t data_left, heap_at, heap_size;
	struct eu_drained *ret;
};

/* Room for a record's fixed part and for its text; text larger than the whole heap is cut, not stuck on. */
static int sink_has_room(const struct sink *sink, size_t fixed, size_t text)
{
	return sink->data_left >= fixed && (!sink->heap_at || sink->heap_size - sink->heap_at >= text);
}

static size_t sink_cut(const struct sink *sink, size_t text)
{
	size_t left = sink->heap_size - sink->heap_at;

	return text < left ? text : left;
}

/* Reads the str_t at `field`; it never reaches outside of its record, whatever it says. */
static void string_place(const char *field, size_t size, uint32_t *off, uint32_t *len)
{
	memcpy(off, field, sizeof(*off));
	memcpy(len, field + sizeof(*off), sizeof(*len));
	if (*off > size)
		*off = size;
	if (*len > size - *off)
		*len = size - *off;
}

/* Whether a path may have components that lead nowhere. No early end: so it is done 16 bytes at a time. */
__attribute__((optimize("O3"))) static int path_untidy(const char *path, size_t size)
{
	int found = 0;

	for (size_t i = 1; i < size; i++)
		found |= (path[i - 1] == '/') & ((path[i] == '.') | (path[i] == '/'));
	return found;
}

/*
 * Puts a record's texts into the heap, one after another in the order of their fields, a NUL behind each,
 * and lets the str_t point there. Returns -1 when they do not fit.
 */
static int take_strings(const struct eu_ring *ring, struct sink *sink, unsigned long body, size_t size)
{
	size_t need = ring->string_count;
	uint32_t off, len;

	for (size_t i = 0; i < ring->string_count; i++) {
		string_place(sink->data + ring->strings[i], size, &off, &len);
		need += len;
	}
	if (!sink_has_room(sink, 0, need))
		return -1;
	for (size_t i = 0; i < ring->string_count; i++) {
		char *field = sink->data + ring->strings[i];
		uint32_t at = sink->heap_at;

		string_place(field, size, &off, &len);
		/* room is kept for the NULs that follow */
		len = sink_cut(sink, len + ring->string_count - i) - (ring->string_count - i);
		ring_copy(ring, body + off, sink->heap + at, len);
		sink->heap[at + len] = 0;
		if (ring->paths >> i & 1)
			sink->ret->untidy |= path_untidy(sink->heap + at, len);
		memcpy(field, &at, sizeof(at));
		memcpy(field + sizeof(at), &len, sizeof(len));
		sink->heap_at += len + 1;
	}
	return 0;
}

/*
 * Copies what the ring holds, up to what fits: each record's fixed part to `data`, its texts to `heap`.
 * Returns 1 when it stopped for want of room, else 0.
 */
int eu_ring_drain(struct eu_ring *ring, char *data, size_t data_size, char *heap, size_t heap_size,
		  struct eu_drained *ret)
{
	struct sink sink = { data, heap, data_size, 0, heap_size, ret };
	unsigned long at = *ring->consumer;
	unsigned long end = __atomic_load_n(ring->producer, __ATOMIC_ACQUIRE);
	size_t fixed = ring->fixed ? ring->fixed : sizeof(struct unknown_record);
	int full = 0;

	memset(ret, 0, sizeof(*ret));
	while (at < end) {
		const uint32_t *header = (const uint32_t *)(ring->data + (at & (ring->size - 1)));

		uint32_t word = __atomic_load_n(header, __ATOMIC_ACQUIRE);
		size_t size = word & ~(BPF_RINGBUF_BUSY_BIT | BPF_RINGBUF_DISCARD_BIT), head;
		unsigned long body = at + BPF_RINGBUF_HDR_SZ;

		if (word & BPF_RINGBUF_BUSY_BIT)
			break;
		/* records come from another processor's cache: ask for them in time, but not for those being written */
		if (at + PREFETCH < end)
			__builtin_prefetch(ring->data + ((at + PREFETCH) & (ring->size - 1)));
		if (word & BPF_RINGBUF_DISCARD_BIT)
			goto next;
		if (!sink_has_room(&sink, fixed, ring->fixed ? 0 : size)) {
			full = 1;
			break;
		}
		if (!ring->fixed) {
			struct unknown_record record = { size, sink.heap_at, sink_cut(&sink, size) };

			memcpy(sink.data, &record, sizeof(record));
			ring_copy(ring, body, sink.heap + sink.heap_at, record.length);
			sink.heap_at += record.length;
			goto taken;
		}
		head = size < fixed ? size : fixed;
		ring_copy(ring, body, sink.data, head);
		if (head < fixed)
			memset(sink.data + head, 0, fixed - head);
		if (ring->string_count && take_strings(ring, &sink, body, size)) {
			full = 1;
			break;
		}
		ret->odd += head < fixed;
taken:
		sink.data += fixed;
		sink.data_left -= fixed;
		ret->records++;
next:
		at += (size + BPF_RINGBUF_HDR_SZ + 7) / 8 * 8;
	}
	__atomic_store_n(ring->consumer, at, __ATOMIC_RELEASE);
	ret->heap = sink.heap_at;
	ret->waiting = end - at;
	return full;
}

/* Lets go of what the ring holds, up to a record that is still being written. */
void eu_ring_skip(struct eu_ring *ring)
{
	unsigned long at = *ring->consumer;
	unsigned long end = __atomic_load_n(ring->producer, __ATOMIC_ACQUIRE);

	while (at < end) {
		const uint32_t *header = (const uint32_t *)(ring->data + (at & (ring->size - 1)));
		uint32_t word = __atomic_load_n(header, __ATOMIC_ACQUIRE);

		if (word & BPF_RINGBUF_BUSY_BIT)
			break;
		at += ((word & ~BPF_RINGBUF_DISCARD_BIT) + BPF_RINGBUF_HDR_SZ + 7) / 8 * 8;
	}
	__atomic_store_n(ring->consumer, at, __ATOMIC_RELEASE);
}

/* Perf buffers are met in foreign objects only: libbpf reads them, and they keep to one shape of batch. */
struct eu_perf {
	struct perf_buffer *buffer;
	struct sink sink;
	char *spill;		/* what did not fit the caller's buffers, kept for the next drain */
	size_t spill_size, spill_room;
	uint64_t lost;
};

static int perf_take(struct sink *sink, const void *data, uint32_t size)
{
	struct unknown_record record = { size, sink->heap_at, sink_cut(sink, size) };

	if (!sink_has_room(sink, sizeof(record), size))
		return -1;
	memcpy(sink->data, &record, sizeof(record));
	memcpy(sink->heap + sink->heap_at, data, record.length);
	sink->data += sizeof(record);
	sink->data_left -= sizeof(record);
	sink->heap_at += record.length;
	sink->ret->records++;
	return 0;
}

static void perf_sample(void *ctx, int cpu, void *data, __u32 size)
{
	struct eu_perf *perf = ctx;
	size_t need = perf->spill_size + sizeof(size) + size;

	(void)cpu;
	if (!perf->spill_size && !perf_take(&perf->sink, data, size))
		return;
	if (need > perf->spill_room) {
		char *spill = realloc(perf->spill, need * 2);

		if (!spill) {
			perf->lost++;
			return;
		}
		perf->spill = spill;
		perf->spill_room = need * 2;
	}
	memcpy(perf->spill + perf->spill_size, &size, sizeof(size));
	memcpy(perf->spill + perf->spill_size + sizeof(size), data, size);
	perf->spill_size = need;
}

static void perf_lost(void *ctx, int cpu, __u64 count)
{
	struct eu_perf *perf = ctx;

	(void)cpu;
	perf->lost += count;
}

struct eu_perf *eu_perf_open(int fd, size_t pages)
{
	struct eu_perf *perf = calloc(1, sizeof(*perf));

	if (!perf)
		return NULL;
	perf->buffer = perf_buffer__new(fd, pages, perf_sample, perf_lost, perf, NULL);
	if (!perf->buffer) {
		int err = errno;

		free(perf);
		errno = err;
		return NULL;
	}
	return perf;
}

void eu_perf_close(struct eu_perf *perf)
{
	perf_buffer__free(perf->buffer);
	free(perf->spill);
	free(perf);
}

int eu_perf_fd(const struct eu_perf *perf)
{
	return perf_buffer__epoll_fd(perf->buffer);
}

/* As eu_ring_drain() does for records of unknown shape; `lost` counts from the start. */
int eu_perf_drain(struct eu_perf *perf, char *data, size_t data_size, char *heap, size_t heap_size,
		  struct eu_drained *ret, uint64_t *lost)
{
	size_t done = 0;
	int err = 0;

	memset(ret, 0, sizeof(*ret));
	perf->sink = (struct sink){ data, heap, data_size, 0, heap_size, ret };
	while (done < perf->spill_size) {
		uint32_t size;

		memcpy(&size, perf->spill + done, sizeof(size));
		if (perf_take(&perf->sink, perf->spill + done + sizeof(size), size))
			break;
		done += sizeof(size) + size;
	}
	if (done)
		memmove(perf->spill, perf->spill + done, perf->spill_size - done);
	perf->spill_size -= done;
	if (!perf->spill_size)
		err = perf_buffer__consume(perf->buffer);
	ret->heap = perf->sink.heap_at;
	ret->waiting = perf->spill_size;
	*lost = perf->lost;
	return err < 0 ? err : perf->spill_size > 0;
}

static int any_waiting(struct eu_ring **rings, size_t count)
{
	for (size_t i = 0; i < count; i++)
		if (eu_ring_waiting(rings[i]))
			return 1;
	return 0;
}

/* Sleeps until a probe has written something, at most so long. Returns whether there is something. */
int eu_wait(int epoll_fd, uint32_t **armed, size_t armed_count, struct eu_ring **rings, size_t ring_count,
	    int milliseconds)
{
	struct epoll_event events[16];
	int ready;

	for (size_t i = 0; i < armed_count; i++)
		__atomic_store_n(armed[i], 1, __ATOMIC_SEQ_CST);
	/* what was written before it was armed woke nobody */
	ready = any_waiting(rings, ring_count);
	if (!ready) {
		ready = epoll_wait(epoll_fd, events, 16, milliseconds);
		if (ready < 0)
			ready = -errno;
	}
	for (size_t i = 0; i < armed_count; i++)
		__atomic_store_n(armed[i], 0, __ATOMIC_RELAXED);
	return ready;
}

/* Waits until every program that runs now has ended: what it wrote can then be read. */
void eu_settle(void)
{
	syscall(SYS_membarrier, MEMBARRIER_CMD_GLOBAL, 0, 0);
}

void eu_sleep(int milliseconds)
{
	struct timespec left = { milliseconds / 1000, milliseconds % 1000 * 1000000L };

	nanosleep(&left, NULL);
}
