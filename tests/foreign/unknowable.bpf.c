// SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause)
/* Bytes of a length that nobody can know, from a buffer without a struct. */
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 1 << 18);
} blobs SEC(".maps");

struct header {
	__u32 magic;
	__u32 length;
	__u64 when;
};

struct write_args {
	__u64 common;
	long nr;
	unsigned long fd, buf, count;
};

SEC("tp/syscalls/sys_enter_write")
int on_write(struct write_args *ctx)
{
	char blob[128] = {};
	struct header *header = (void *)blob;
	__u64 size = ctx->count;

	header->magic = 0xfeed;
	header->length = size;
	header->when = bpf_ktime_get_ns();
	if (size > 112)
		size = 112;
	bpf_probe_read_user(blob + 16, size, (void *)ctx->buf);
	bpf_ringbuf_output(&blobs, blob, 16 + size, 0);
	return 0;
}

char LICENSE[] SEC("license") = "GPL";
