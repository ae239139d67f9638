// SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause)
/*
 * Which cgroups come and go?
 *
 * Docker and similar runtimes make a container's cgroup some 270 ms before its
 * first program runs, and the path names the container. The tracepoints'
 * records have all that is needed, so nothing here is relocated and libbpf need
 * not read the kernel's BTF.
 */
#include <eunomia/cgroup_record.h>
#include <eunomia/hook.h>
#include <eunomia/stream.h>
#include <eunomia/set.h>

/* No <eunomia/probe.h>: cgroups are not filtered. */
char LICENSE[] SEC("license") = "Dual BSD/GPL";

struct cgroup_event {
	time_ns_t time doc("when it was made or removed");
	cgroup_id_t cgroup_id doc("its id: the inode number of its directory");
	__u32 hierarchy doc("the hierarchy it belongs to; 0 is v2");
	__u32 level doc("its depth below the root");
	char maker[16] doc("the command that made or removed it");
	str_t path doc("its path from the root; the kernel cuts it at 1023 bytes");
};

const volatile __s32 hierarchy doc("the one whose cgroups are reported; 0 is v2") = 0;

struct scratch {
	struct cgroup_event event;
	char text[PATH_MAX_LEN];
};

STREAM(made, struct cgroup_event, 256 * 1024);
STREAM(removed, struct cgroup_event, 256 * 1024);

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct scratch);
} scratches SEC(".maps");

/* Returns the record's size, 0 when it is not to be sent. */
static __always_inline __u32 build(struct cgroup_record *ctx, struct scratch **ret)
{
	struct scratch *scratch;
	__u32 zero = 0;
	long length;

	/* The tracepoint fires for each hierarchy, and their ids collide. */
	if (ctx->root != hierarchy)
		return 0;
	scratch = bpf_map_lookup_elem(&scratches, &zero);
	if (!scratch)
		return 0;
	length = cgroup_record_path(ctx, scratch->text);
	scratch->event.time = bpf_ktime_get_ns();
	scratch->event.cgroup_id = ctx->id;
	scratch->event.hierarchy = hierarchy;
	scratch->event.level = ctx->level;
	bpf_get_current_comm(scratch->event.maker, sizeof(scratch->event.maker));
	scratch->event.path.off = sizeof(scratch->event);
	scratch->event.path.len = length;
	*ret = scratch;
	return sizeof(scratch->event) + length;
}

HANDLER_TP("tp/cgroup/cgroup_mkdir", on_made, struct cgroup_record *ctx)
{
	struct scratch *scratch;
	__u32 size = build(ctx, &scratch);
	__u64 cgroup = ctx->id;
	__u8 yes = 1;

	if (!size)
		return;
	/* events in it pass until user space knows its container */
	if (eunomia_filter & EUNOMIA_IN_CGROUPS)
		bpf_map_update_elem(&eunomia_cgroups, &cgroup, &yes, BPF_ANY);
	stream_output(made, scratch, size);
}

HANDLER_TP("tp/cgroup/cgroup_rmdir", on_removed, struct cgroup_record *ctx)
{
	struct scratch *scratch;
	__u32 size = build(ctx, &scratch);

	if (size)
		stream_output(removed, scratch, size);
}
