// SPDX-License-Identifier: BSD-2-Clause
#define _GNU_SOURCE
#include "native.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

/* What libbpf says: kept, never printed; Python decides what of it a user should see. */

static char *log_text;
static size_t log_size, log_room;
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
