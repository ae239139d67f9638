// SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause)
/* When did the system call begin that a task is in? */
#include <eunomia/syscall_time.h>

char LICENSE[] SEC("license") = "Dual BSD/GPL";

static __always_inline void begin(struct task_struct *task, syscall_t syscall)
{
	struct eunomia_begun *begun = bpf_task_storage_get(&eunomia_begun, task, 0, BPF_LOCAL_STORAGE_GET_F_CREATE);

	if (!begun)
		return;
	begun->read = 0;
	begun->syscall = syscall;
	begun->time = bpf_ktime_get_ns();
}

SYSCALL_ANY_ENTER(begin_any)
{
	begin(call->task, syscall_id(call));
}

/* User space hangs it where calls of other names begin, in the functions that do them. */
SYSCALL_ENTER(begin_function, read)
{
	begin(call->task, 0);
}

/* Where there is no fentry, user space hangs it where calls of some names begin: that costs other calls a tenth of what a look at each would. */
SEC("tp/syscalls/sys_enter")
int begin_some(void *ctx)
{
	begin(bpf_get_current_task_btf(), 0);
	return 0;
}
