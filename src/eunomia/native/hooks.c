// SPDX-License-Identifier: BSD-2-Clause
/* Programs and maps that come from no object file: the stubs on hooks, and the tables of what they call. */
#define _GNU_SOURCE
#include "native.h"

#include <errno.h>
#include <linux/perf_event.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <unistd.h>

/* Returns a program's descriptor or a negative errno; `btf_id` is what a tracing program is for, else 0. */
int eu_load_code(int type, int attach_type, int btf_id, const char *name, const void *code, size_t count)
{
	LIBBPF_OPTS(bpf_prog_load_opts, opts, .expected_attach_type = attach_type, .attach_btf_id = btf_id);

	return bpf_prog_load(type, name, "Dual BSD/GPL", code, count, &opts);
}

/*
 * Loads a program of the type of another that is loaded, and for the same place: one that could be called there in its
 * stead. Returns its descriptor or a negative errno.
 */
int eu_load_like(int prog_fd, int attach_type, const char *name, const void *code, size_t count)
{
	LIBBPF_OPTS(bpf_prog_load_opts, opts, .expected_attach_type = attach_type);
	struct bpf_prog_info info = {};
	__u32 size = sizeof(info);
	int fd, btf = -1;

	if (bpf_obj_get_info_by_fd(prog_fd, &info, &size))
		return -errno;
	if (info.type == BPF_PROG_TYPE_TRACING) {
		if (!info.attach_btf_id)	/* before Linux 6.0 the kernel does not say */
			return -EOPNOTSUPP;
		opts.attach_btf_id = info.attach_btf_id;
		btf = bpf_btf_get_fd_by_id(info.attach_btf_obj_id);
		if (btf < 0)
			return btf;
		opts.attach_btf_obj_fd = btf;
	}
	fd = bpf_prog_load(info.type, name, "Dual BSD/GPL", code, count, &opts);
	if (btf >= 0)
		close(btf);
	return fd;
}

/* Whether a program calls a helper somewhere. */
int eu_calls_helper(const struct bpf_program *prog, int helper)
{
	const struct bpf_insn *code = bpf_program__insns(prog);

	for (size_t i = 0; i < bpf_program__insn_cnt(prog); i++)
		if (code[i].code == (BPF_JMP | BPF_CALL) && !code[i].src_reg && code[i].imm == helper)
			return 1;
	return 0;
}

/*
 * How many words of its context a program of a raw tracepoint reads, 1 at least. A trial run with fewer is refused for
 * that; one with as many fails, before it runs, over the address that the context is to be copied from. Negative where
 * there are no such runs (before Linux 5.10).
 */
int eu_context_words(int prog_fd)
{
	int err = -EINVAL;

	for (int words = 1; words <= 12 && err == -EINVAL; words++) {	/* MAX_BPF_FUNC_ARGS */
		LIBBPF_OPTS(bpf_test_run_opts, run, .ctx_in = (void *)1, .ctx_size_in = 8 * words);

		err = bpf_prog_test_run_opts(prog_fd, &run);
		if (err == -EFAULT)
			return words;
	}
	return err ? err : -EINVAL;
}

/* Returns a map's descriptor or a negative errno. */
int eu_create_map(int type, const char *name, uint32_t key_size, uint32_t value_size, uint32_t entries)
{
	return bpf_map_create(type, name, key_size, value_size, entries, NULL);
}

/* Hangs a program on a raw tracepoint, on its own one where `name` is NULL. Returns the link, or a negative errno. */
int eu_attach_raw(int prog_fd, const char *name)
{
	return bpf_raw_tracepoint_open(name, prog_fd);
}

/* Hangs a program on a tracepoint; it comes off with the descriptor that is returned, or a negative errno. */
int eu_attach_event(int prog_fd, const char *category, const char *name)
{
	long id = eu_tracepoint_id(category, name);
	int fd, err;

	if (id < 0)
		return -ENOENT;
	fd = eu_open_tracepoint(id);
	if (fd < 0)
		return -errno;
	if (ioctl(fd, PERF_EVENT_IOC_SET_BPF, prog_fd) || ioctl(fd, PERF_EVENT_IOC_ENABLE, 0)) {
		err = -errno;
		close(fd);
		return err;
	}
	return fd;
}

/*
 * Whether a tracepoint's record has all that a program reads: 0, or a negative errno. An event takes one program, and
 * is asked after the record first; so it has one already that does nothing, and refuses ours for that.
 */
int eu_fits_tracepoint(int prog_fd, const char *category, const char *name)
{
	const struct bpf_insn nothing[] = {
		{ .code = BPF_ALU64 | BPF_MOV | BPF_K, .dst_reg = BPF_REG_0 },
		{ .code = BPF_JMP | BPF_EXIT },
	};
	int first = eu_load_code(BPF_PROG_TYPE_TRACEPOINT, 0, 0, "eu_nothing", nothing, 2), event, err;

	if (first < 0)
		return first;
	event = eu_attach_event(first, category, name);
	close(first);
	if (event < 0)
		return event;
	err = ioctl(event, PERF_EVENT_IOC_SET_BPF, prog_fd) ? -errno : 0;
	close(event);
	return err == -EEXIST ? 0 : err ? err : -EINVAL;
}

/*
 * Sections of eunomia/syscall.h: `syscall_exit/NAME:NUMBERS...` is a program for tp_btf/sys_exit. libbpf would read
 * all of the kernel's BTF to find that tracepoint, so it is told of another type until the moment of loading.
 */
static int syscall_ids[2];	/* the running kernel's, and so the same at each load */

/* To be called before such a program is loaded, for that may be in a thread. Returns 0, or a negative errno. */
int eu_find_syscall_hooks(void)
{
	static const char *const names[] = { "btf_trace_sys_enter", "btf_trace_sys_exit" };

	for (int i = 0; i < 2; i++) {
		if (syscall_ids[i] <= 0)
			syscall_ids[i] = eu_kernel_type(names[i], BTF_KIND_TYPEDEF);
		if (syscall_ids[i] <= 0)
			return -ENOENT;
	}
	return 0;
}

static int function_id;

/* What programs are verified for that are told to be for functions (fentry, fexit): any with their prototype. */
void eu_use_function(int btf_id)
{
	function_id = btf_id;
}

static int prepare_syscall(struct bpf_program *prog, struct bpf_prog_load_opts *opts, long which)
{
	int attach_type = bpf_program__expected_attach_type(prog);
	int is_of_function = attach_type == BPF_TRACE_FENTRY || attach_type == BPF_TRACE_FEXIT;

	opts->attach_btf_id = is_of_function ? function_id : syscall_ids[which];
	opts->expected_attach_type = is_of_function ? attach_type : BPF_TRACE_RAW_TP;
	return bpf_program__set_type(prog, BPF_PROG_TYPE_TRACING);
}

void eu_know_sections(void)
{
	static int done;
	LIBBPF_OPTS(libbpf_prog_handler_opts, enter, .prog_prepare_load_fn = prepare_syscall, .cookie = 0);
	LIBBPF_OPTS(libbpf_prog_handler_opts, exit, .prog_prepare_load_fn = prepare_syscall, .cookie = 1);

	if (done)
		return;
	done = 1;
	libbpf_register_prog_handler("syscall_enter+", BPF_PROG_TYPE_RAW_TRACEPOINT, 0, &enter);
	libbpf_register_prog_handler("syscall_exit+", BPF_PROG_TYPE_RAW_TRACEPOINT, 0, &exit);
}
