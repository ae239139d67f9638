// SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause)
/*
 * Which cgroups are made? For the thread that reads a new container's files immediately (native/early.c): it has a
 * ring of its own, and is woken for each cgroup.
 */
#include <eunomia/cgroup_record.h>
#include <eunomia/hook.h>
#include <eunomia/stream.h>

char LICENSE[] SEC("license") = "Dual BSD/GPL";

struct early_event {
	str_t path doc("its path from the root");
};

const volatile __s32 hierarchy doc("the one whose cgroups are reported; 0 is v2") = 0;

struct scratch {
	struct early_event event;
	char text[PATH_MAX_LEN];
};

STREAM(early, struct early_event, 256 * 1024);

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct scratch);
} scratches SEC(".maps");

HANDLER_TP("tp/cgroup/cgroup_mkdir", on_new, struct cgroup_record *ctx)
{
	struct scratch *scratch;
	__u32 zero = 0;
	long length;

	if (ctx->root != hierarchy)
		return;
	scratch = bpf_map_lookup_elem(&scratches, &zero);
	if (!scratch)
		return;
	length = cgroup_record_path(ctx, scratch->text);
	scratch->event.path.off = sizeof(scratch->event);
	scratch->event.path.len = length;
	/* A cgroup that does not fit is not read early; nothing else is lost. */
	bpf_ringbuf_output(&early, scratch, sizeof(scratch->event) + length, BPF_RB_FORCE_WAKEUP);
}
