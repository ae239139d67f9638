/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * Handlers: programs that share a hook. However many there are, the kernel runs one program there, which calls the
 * first handler; each ends by calling the next.
 *
 *	HANDLER("raw_tp/sched_process_exit", on_exit, struct task_struct *task)
 *	{
 *		if (!eunomia_wants(eunomia_cgroup()))
 *			return;
 *		...
 *	}
 *
 * The arguments are those of the tracepoint, as BPF_PROG() has them; of "tp/CATEGORY/NAME" it is the record, as
 * `struct my_record *ctx`: see HANDLER_TP. System calls: <eunomia/syscall.h>.
 */
#ifndef EUNOMIA_HOOK_H
#define EUNOMIA_HOOK_H

#include <eunomia/types.h>
#include <eunomia/kernel.h>
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_tracing.h>

/*
 * What a handler calls in the end, by the slot that it was called from. User space keeps it. Where there is one slot the
 * kernel writes a direct jump into the handler, or none, whenever that changes.
 */
#define EUNOMIA_NEXT(name_, slots_) \
	struct { \
		__uint(type, BPF_MAP_TYPE_PROG_ARRAY); \
		__uint(max_entries, slots_); \
		__type(key, __u32); \
		__type(value, __u32); \
	} next_##name_ SEC(".maps")

/* On a raw tracepoint: "raw_tp/NAME". */
#define HANDLER(section_, name_, args...) \
	EUNOMIA_NEXT(name_, 1); \
	static __always_inline void handle_##name_(unsigned long long *ctx, ##args); \
	SEC(section_) int name_(unsigned long long *ctx) \
	{ \
		_Pragma("GCC diagnostic push") \
		_Pragma("GCC diagnostic ignored \"-Wint-conversion\"") \
		handle_##name_(___bpf_ctx_cast(args)); \
		_Pragma("GCC diagnostic pop") \
		bpf_tail_call(ctx, &next_##name_, 0); \
		return 0; \
	} \
	static __always_inline void handle_##name_(unsigned long long *ctx, ##args)

/* On a tracepoint with its record: "tp/CATEGORY/NAME". */
#define HANDLER_TP(section_, name_, record_) \
	EUNOMIA_NEXT(name_, 1); \
	static __always_inline void handle_##name_(record_); \
	SEC(section_) int name_(void *ctx) \
	{ \
		handle_##name_(ctx); \
		bpf_tail_call(ctx, &next_##name_, 0); \
		return 0; \
	} \
	static __always_inline void handle_##name_(record_)

#endif
