// SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause)
/* Records that are longer than their struct: a flexible array, put together in a map that is bytes alone,
 * and a header with something behind it. And several texts in one array. */
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

struct opened {
	__u32 pid;
	__u32 length;
	char path[];
};

const struct opened *unused __attribute__((unused));

struct room {
	char bytes[512];
};

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct room);
} heap SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 1 << 16);
} opens SEC(".maps");

struct header {
	__u32 pid;
	__u32 kind;
};

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 1 << 16);
	__type(value, struct header);
} headed SEC(".maps");

struct words {
	__u32 pid;
	__u32 args_size;
	char args[32];
};

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 1 << 16);
	__type(value, struct words);
} said SEC(".maps");

struct open_args {
	__u64 common;
	long nr, dfd;
	const char *name;
};

SEC("tp/syscalls/sys_enter_openat")
int on_open(struct open_args *ctx)
{
	__u32 zero = 0;
	struct opened *e = bpf_map_lookup_elem(&heap, &zero);
	long length;

	if (!e)
		return 0;
	length = bpf_probe_read_user_str(e->path, 256, ctx->name);
	if (length <= 0)
		return 0;
	e->pid = bpf_get_current_pid_tgid() >> 32;
	e->length = length;
	bpf_ringbuf_output(&opens, e, (sizeof(*e) + length) & 511, 0);
	return 0;
}

SEC("tp/syscalls/sys_enter_getppid")
int on_getppid(void *ctx)
{
	struct header *h = bpf_ringbuf_reserve(&headed, sizeof(*h) + 4, 0);
	struct words *w;

	if (h) {
		h->pid = bpf_get_current_pid_tgid() >> 32;
		h->kind = 7;
		__builtin_memcpy(h + 1, "\xde\xad\xbe\xef", 4);
		bpf_ringbuf_submit(h, 0);
	}
	w = bpf_ringbuf_reserve(&said, sizeof(*w), 0);
	if (!w)
		return 0;
	w->pid = bpf_get_current_pid_tgid() >> 32;
	w->args_size = 11;
	__builtin_memcpy(w->args, "ls\0-l\0/tmp\0left over", 20);
	bpf_ringbuf_submit(w, 0);
	return 0;
}

char LICENSE[] SEC("license") = "GPL";
