// SPDX-License-Identifier: BSD-2-Clause
/*
 * Rights that a process gives up for good: capabilities, its user, the network, system calls. All of it is kept per
 * thread by the kernel, so a process does this while it has one.
 */
#define _GNU_SOURCE
#include "native.h"

#include <errno.h>
#include <grp.h>
#include <sched.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <linux/audit.h>
#include <linux/capability.h>
#include <linux/filter.h>
#include <linux/seccomp.h>

#if defined(__x86_64__)
#define NATIVE_ARCH AUDIT_ARCH_X86_64
#elif defined(__aarch64__)
#define NATIVE_ARCH AUDIT_ARCH_AARCH64
#endif

static int capabilities(int call, uint64_t *permitted, uint64_t *effective, uint64_t *inheritable)
{
	struct __user_cap_header_struct header = { .version = _LINUX_CAPABILITY_VERSION_3 };
	struct __user_cap_data_struct data[2];

	for (int i = 0; i < 2; i++) {
		data[i].permitted = *permitted >> 32 * i;
		data[i].effective = *effective >> 32 * i;
		data[i].inheritable = *inheritable >> 32 * i;
	}
	if (syscall(call, &header, data))
		return -errno;
	*permitted = data[0].permitted | (uint64_t)data[1].permitted << 32;
	*effective = data[0].effective | (uint64_t)data[1].effective << 32;
	*inheritable = data[0].inheritable | (uint64_t)data[1].inheritable << 32;
	return 0;
}

/* What execve() may never add again: all but `keep`, as far as the caller may say so. */
int eu_shrink_bounding_set(uint64_t keep)
{
	uint64_t permitted = 0, effective = 0, inheritable = 0;
	int err = capabilities(SYS_capget, &permitted, &effective, &inheritable);

	if (err || !(effective >> CAP_SETPCAP & 1))
		return err;
	for (int i = 0; i < 64 && prctl(PR_CAPBSET_READ, i) >= 0; i++)
		if (!(keep >> i & 1) && prctl(PR_CAPBSET_DROP, i))
			return -errno;
	return 0;
}

/*
 * Keeps those capabilities of `keep` that the caller has, and none else. No program that it starts has any:
 * the ambient and inheritable sets are emptied, and no_new_privs stands in where the bounding set cannot be shrunk.
 */
int eu_keep_capabilities(uint64_t keep)
{
	uint64_t permitted = 0, effective = 0, inheritable = 0;
	int err = eu_shrink_bounding_set(keep);

	err = err ?: capabilities(SYS_capget, &permitted, &effective, &inheritable);
	if (err)
		return err;
	if (prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0) || prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0))
		return -errno;
	permitted &= keep;
	effective = permitted;
	inheritable = 0;
	return capabilities(SYS_capset, &permitted, &effective, &inheritable);
}

/* Becomes a user and the group of the same number, in no other group. */
int eu_become(unsigned int id)
{
	if (setgroups(0, NULL) || setresgid(id, id, id) || setresuid(id, id, id))
		return -errno;
	return 0;
}

/* An empty network and no System V objects. Those who are not root can have them in a user namespace of their own. */
int eu_leave_network(int in_user_namespace)
{
	int flags = CLONE_NEWNET | CLONE_NEWIPC | (in_user_namespace ? CLONE_NEWUSER : 0);

	return unshare(flags) ? -errno : 0;
}

int eu_prctl(int option, unsigned long value)
{
	return prctl(option, value, 0, 0, 0) < 0 ? -errno : 0;
}

/* What an interpreter needs to compute, read and write descriptors that are open, and end. */
static const int allowed[] = {
	SYS_read, SYS_write, SYS_close, SYS_lseek, SYS_fstat,
	SYS_brk, SYS_munmap, SYS_mremap, SYS_madvise, SYS_futex,
	SYS_rt_sigreturn, SYS_rt_sigaction, SYS_rt_sigprocmask, SYS_restart_syscall,
	SYS_clock_gettime, SYS_gettimeofday, SYS_getrandom, SYS_sched_yield, SYS_uname,
	SYS_exit, SYS_exit_group,
};

/* Without PROT_EXEC, which is their third argument. */
static const int allowed_without_code[] = { SYS_mmap, SYS_mprotect };

/*
 * What libraries try and do without. abort() is here by its parts: it then ends by a fault, which is told from a call
 * that is forbidden.
 */
static const int refused[] = {
#ifdef SYS_open
	SYS_open, SYS_access, SYS_stat, SYS_lstat, SYS_readlink,
#endif
#ifdef SYS_faccessat2
	SYS_faccessat2,
#endif
	SYS_openat, SYS_faccessat, SYS_newfstatat, SYS_readlinkat, SYS_statx, SYS_getcwd, SYS_writev,
	SYS_getpid, SYS_gettid, SYS_tgkill, SYS_sched_getaffinity, SYS_prlimit64, SYS_sysinfo,
};

#define ROOM 128

struct filter {
	struct sock_filter code[ROOM];
	size_t size;
};

static void add(struct filter *filter, struct sock_filter instruction)
{
	if (filter->size < ROOM)
		filter->code[filter->size] = instruction;
	filter->size++;
}

static void load(struct filter *filter, size_t offset)
{
	add(filter, (struct sock_filter)BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offset));
}

/* Ends the filter with `verdict`, or goes on where the loaded word is another one. */
static void end_if(struct filter *filter, int jump, __u32 value, __u32 verdict)
{
	add(filter, (struct sock_filter)BPF_JUMP(BPF_JMP | jump | BPF_K, value, 0, 1));
	add(filter, (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, verdict));
}

#define COUNT(array) (sizeof(array) / sizeof(*(array)))

/* Kills the process at the first system call for which there is no need. Cannot be undone. */
int eu_only_compute(void)
{
#ifdef NATIVE_ARCH
	struct filter filter = {};
	struct sock_fprog program = { .filter = filter.code };

	load(&filter, offsetof(struct seccomp_data, arch));
	add(&filter, (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, NATIVE_ARCH, 1, 0));
	add(&filter, (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS));
	load(&filter, offsetof(struct seccomp_data, nr));	/* x32 sets bit 30: none of these numbers has it */
	for (size_t i = 0; i < COUNT(allowed); i++)
		end_if(&filter, BPF_JEQ, allowed[i], SECCOMP_RET_ALLOW);
	for (size_t i = 0; i < COUNT(refused); i++)
		end_if(&filter, BPF_JEQ, refused[i], SECCOMP_RET_ERRNO | EACCES);
	/* the calls with arguments come last: looking at one replaces the loaded number */
	add(&filter, (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, allowed_without_code[0], 2, 0));
	add(&filter, (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, allowed_without_code[1], 1, 0));
	add(&filter, (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS));
	load(&filter, offsetof(struct seccomp_data, args[2]));	/* its lower half: both machines are little-endian */
	end_if(&filter, BPF_JSET, PROT_EXEC, SECCOMP_RET_KILL_PROCESS);
	add(&filter, (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW));
	if (filter.size > ROOM)
		return -E2BIG;
	program.len = filter.size;
	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) || prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program, 0, 0))
		return -errno;
	return 0;
#else
	return -ENOSYS;
#endif
}
