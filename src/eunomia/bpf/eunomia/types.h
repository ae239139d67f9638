/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * Types that give a field its meaning. Eunomia reads their names, and doc(), from the object's BTF;
 * streams are described nowhere else.
 */
#ifndef EUNOMIA_TYPES_H
#define EUNOMIA_TYPES_H

#ifndef __VMLINUX_H__
#include <linux/types.h>
#include <linux/bpf.h>

typedef _Bool bool;
#define true 1
#define false 0

typedef __u32 pid_t;
typedef __u32 uid_t;
typedef __u32 gid_t;
typedef __u16 umode_t;
#endif

/* One sentence on a field, a struct or a setting; shown by `eunomia info`. */
#define doc(text) __attribute__((btf_decl_tag("doc:" text)))
/* Not in tables by default. */
#define hidden __attribute__((btf_decl_tag("hidden")))
/* On a field: the number that means no value. JSON shows null, tables nothing. */
#define none(value) __attribute__((btf_decl_tag("none:" eunomia_text(value))))
/* On a union: the field beside it that selects a member; on its members: the value that selects it. */
#define selected_by(field) __attribute__((btf_decl_tag("selected_by:" #field)))
#define selected_for(value) __attribute__((btf_decl_tag("selected_for:" eunomia_text(value))))
#define eunomia_text(value) #value	/* of what a macro stands for */

typedef __u64 time_ns_t;	/* bpf_ktime_get_ns(); shown as wall-clock time */
typedef __u64 duration_ns_t;
typedef __u64 cgroup_id_t;	/* eunomia_cgroup(): rows are joined with containers by it */
typedef __s32 errno_t;		/* positive, negative or 0 */
typedef __u32 signal_t;
typedef __u64 syscall_t;	/* a system call's number; with SYSCALL_COMPAT by the 32-bit ABI */
#define SYSCALL_COMPAT (1ULL << 32)
typedef __u32 capability_t;
typedef __u32 open_flags_t;
typedef __u32 device_t;		/* the kernel's own dev_t */
typedef __u32 ipv4_t;		/* in network order, as in struct iphdr */
typedef __u16 port_be_t;	/* in network order */
typedef __u32 hex32_t;
typedef __u64 hex64_t;
typedef __s32 kstack_id_t;	/* bpf_get_stackid() without BPF_F_USER_STACK */
typedef __s32 ustack_id_t;

/*
 * Histograms: an array of either type counts values by how large they are, and tables draw it.
 * Of hist_log2_t element i is for values from 2^i up to 2^(i+1) - 1, and element 0 for 0 too; of hist_linear_t
 * element i is for values from i * step up to (i+1) * step - 1. The last element is for all greater values too.
 *
 *	hist_log2_t latency[32] hist_unit("us");
 *	hist_linear_t depth[20] hist_unit("requests") hist_step(5);
 */
typedef __u64 hist_log2_t;
typedef __u64 hist_linear_t;
#define hist_unit(text) __attribute__((btf_decl_tag("hist_unit:" text)))	/* of the values */
#define hist_step(number) __attribute__((btf_decl_tag("hist_step:" eunomia_text(number))))	/* 1 without it */

typedef struct {
	__u8 bytes[16];
} ipv6_t;

typedef struct {
	__u8 bytes[16];		/* IPv4 addresses as ::ffff:a.b.c.d */
} ip_t;

/* A process, also after its id is reused: when it began (task_struct.start_time), and its id. */
typedef struct {
	__u64 start;
	__u32 pid;
	__u32 reserved;
} exec_id_t;

/*
 * Text of any length, after the fixed part of the record: `off` counts from the record's start.
 * path_t is normalized ("/a/../b" is "/b"), argv_t has NUL-terminated strings one after another.
 */
typedef struct {
	__u32 off;
	__u32 len;
} str_t;

typedef struct {
	__u32 off;
	__u32 len;
} path_t;

typedef struct {
	__u32 off;
	__u32 len;
} argv_t;

#endif
