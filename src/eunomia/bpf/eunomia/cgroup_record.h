/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* The record of cgroup_mkdir, cgroup_rmdir and similar tracepoints: nothing in it needs relocation. */
#ifndef EUNOMIA_CGROUP_RECORD_H
#define EUNOMIA_CGROUP_RECORD_H

#include <eunomia/types.h>
#include <bpf/bpf_helpers.h>

/* The kernel cuts paths at this (TRACE_CGROUP_PATH_LEN). */
#define PATH_MAX_LEN 1024

/* /sys/kernel/tracing/events/cgroup/cgroup_mkdir/format; that of the others is the same. */
struct cgroup_record {
	__u64 common;
	__s32 root;
	__s32 level;
	__u64 id;
	__u32 path; /* __data_loc: length << 16 | offset, from the record's start */
	__s32 state; /* of cgroup_notify_frozen and cgroup_notify_populated alone */
};

/* Reads the path into a buffer of PATH_MAX_LEN bytes; returns its length without the NUL. */
static __always_inline long cgroup_record_path(const struct cgroup_record *record, char *text)
{
	long length = bpf_probe_read_kernel_str(text, PATH_MAX_LEN, (const char *)record + (record->path & 0xffff));

	/* Includes the NUL; negative only if the record does not have the documented format. */
	length = length > 0 ? length - 1 : 0;
	return length & (PATH_MAX_LEN - 1);
}

#endif
