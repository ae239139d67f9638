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

/*
 * What libbpf says: kept, never printed; Python decides what of it a user should see. libbpf speaks in the thread that
 * calls it, and each keeps its own.
 */

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
	} while (again != high);	/* the lower half wrapped around in between */
	return high << 32 | low;
}
