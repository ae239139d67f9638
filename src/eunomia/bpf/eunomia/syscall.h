/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * Handlers of system calls. However many there are, the kernel runs one program where calls end, which calls the
 * handlers of those that somebody wants, by whatever ABI they came.
 *
 *	SYSCALL_EXIT(on_open, open, openat)
 *	{
 *		if (!eunomia_wants(eunomia_cgroup()))
 *			return;
 *		... = syscall_is(call, open) ? AT_FDCWD : (int)syscall_arg(call, 0);
 *		... = call->ret;
 *	}
 *
 * `call` is the struct syscall below. Where a call ends its arguments are still there, so hardly anything needs to
 * hang where it begins; when that was says <eunomia/syscall_time.h>. What runs here is a tp_btf program.
 */
#ifndef EUNOMIA_SYSCALL_H
#define EUNOMIA_SYSCALL_H

#include <eunomia/hook.h>
#include <eunomia/syscall_numbers.h>
#include <bpf/bpf_core_read.h>

struct syscall {
	struct task_struct *task;	/* the current one, as helpers want it; its members: task_current() */
	struct pt_regs *regs;		/* their members can be read as they are */
	long ret;			/* what the call returned; of one that begins, its number */
	__u32 index;			/* its number, and by the 32-bit ABI or x32 SYSCALL_INDEX_* more */
	bool compat;			/* whether the 32-bit ABI was used: numbers and structs are others there */
};

#define SYSCALL_INDEX_COMPAT	1024
#define SYSCALL_INDEX_X32	2048
#define SYSCALL_INDEXES		3072
#define SYSCALL_X32_BIT		0x40000000

/* Where calls of some names end. */
#define SYSCALL_EXIT(name_, calls_...) \
	EUNOMIA_SYSCALL("syscall_exit" EUNOMIA_EACH(EUNOMIA_CALL_TEXT, calls_), name_, SYSCALL_INDEXES, call.index)

/* Where they begin. */
#define SYSCALL_ENTER(name_, calls_...) \
	EUNOMIA_SYSCALL("syscall_enter" EUNOMIA_EACH(EUNOMIA_CALL_TEXT, calls_), name_, SYSCALL_INDEXES, call.index)

/* Where any call ends, also one that has no index: its number is syscall_number(). */
#define SYSCALL_ANY_EXIT(name_) EUNOMIA_SYSCALL("syscall_exit", name_, 1, 0)

/* Where any call begins. */
#define SYSCALL_ANY_ENTER(name_) EUNOMIA_SYSCALL("syscall_enter", name_, 1, 0)

/* Whether it is the call of a name, by any ABI. */
#define syscall_is(call_, name_) eunomia_call_is((call_)->index, EUNOMIA_CALL_##name_)

/* The number as the kernel got it, of which any 32 bits may be set. */
static __always_inline __u32 syscall_number(const struct syscall *call)
{
#if defined(__TARGET_ARCH_x86)
	return call->regs->orig_ax;
#else
	return call->regs->syscallno;
#endif
}

/* The same as a syscall_t. */
static __always_inline syscall_t syscall_id(const struct syscall *call)
{
	return syscall_number(call) | (call->compat ? SYSCALL_COMPAT : 0);
}

/* An argument, 0 to 5; `at` is a constant. */
static __always_inline unsigned long syscall_arg(const struct syscall *call, int at)
{
	const struct pt_regs *regs = call->regs;

#if defined(__TARGET_ARCH_x86)
	if (call->compat)
		return (__u32)(at == 0 ? regs->bx : at == 1 ? regs->cx : at == 2 ? regs->dx : at == 3 ? regs->si :
			       at == 4 ? regs->di : regs->bp);
	return at == 0 ? regs->di : at == 1 ? regs->si : at == 2 ? regs->dx : at == 3 ? regs->r10 :
	       at == 4 ? regs->r8 : regs->r9;
#else
	/* the result stands where the first was */
	return at == 0 ? regs->orig_x0 : regs->regs[at];
#endif
}

/* From here on it is the macros' own. */

static __always_inline bool eunomia_call_is(__u32 index, __u32 native, __u32 compat, __u32 x32)
{
	return index == native || index == SYSCALL_INDEX_COMPAT + compat || index == SYSCALL_INDEX_X32 + x32;
}

static __always_inline void eunomia_call(struct syscall *call, unsigned long long *ctx)
{
	call->task = bpf_get_current_task_btf();
	call->regs = (void *)ctx[0];
	call->ret = ctx[1];
	/* x86: TS_COMPAT, arm64: TIF_32BIT */
#if defined(__TARGET_ARCH_x86)
	call->compat = call->task->thread_info.status & 2;
#else
	call->compat = call->task->thread_info.flags >> 22 & 1;
#endif
	call->index = syscall_number(call) & ~SYSCALL_X32_BIT;
	if (call->index >= SYSCALL_INDEX_COMPAT)
		call->index = SYSCALL_INDEXES;
	else if (call->compat)
		call->index += SYSCALL_INDEX_COMPAT;
	else if (syscall_number(call) & SYSCALL_X32_BIT)
		call->index += SYSCALL_INDEX_X32;
}

#define EUNOMIA_SYSCALL(section_, name_, slots_, slot_) \
	EUNOMIA_NEXT(name_, slots_); \
	static __always_inline void handle_##name_(struct syscall *call); \
	SEC(section_) int name_(unsigned long long *ctx) \
	{ \
		struct syscall call; \
		eunomia_call(&call, ctx); \
		handle_##name_(&call); \
		bpf_tail_call(ctx, &next_##name_, slot_); \
		return 0; \
	} \
	static __always_inline void handle_##name_(struct syscall *call)

/* "/open:2,5,2" */
#define EUNOMIA_CALL_TEXT(name_) "/" #name_ ":" EUNOMIA_TEXTS(EUNOMIA_CALL_##name_)
#define EUNOMIA_TEXTS(numbers_...) EUNOMIA_TEXTS_(numbers_)
#define EUNOMIA_TEXTS_(native_, compat_, x32_) #native_ "," #compat_ "," #x32_

/* macro(a) macro(b) ..., of 64 names at most: the preprocessor has to go over it once for each. */
#define EUNOMIA_EACH(macro_, names_...) EUNOMIA_64(EUNOMIA_NEXT_NAME(macro_, names_))
#define EUNOMIA_NEXT_NAME(macro_, name_, ...) \
	macro_(name_) __VA_OPT__(EUNOMIA_AGAIN EUNOMIA_NOTHING () (macro_, __VA_ARGS__))
#define EUNOMIA_AGAIN() EUNOMIA_NEXT_NAME
#define EUNOMIA_NOTHING
#define EUNOMIA_64(x...) EUNOMIA_16(EUNOMIA_16(EUNOMIA_16(EUNOMIA_16(x))))
#define EUNOMIA_16(x...) EUNOMIA_4(EUNOMIA_4(EUNOMIA_4(EUNOMIA_4(x))))
#define EUNOMIA_4(x...) EUNOMIA_1(EUNOMIA_1(EUNOMIA_1(EUNOMIA_1(x))))
#define EUNOMIA_1(x...) x

#endif
