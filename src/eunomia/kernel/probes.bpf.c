// SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause)
/* Which kinds of hooks does this kernel have? One program for each, to be loaded and attached alone. */
#include <linux/types.h>
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

char LICENSE[] SEC("license") = "Dual BSD/GPL";

#define PROBE(name, section) \
	SEC(section) int name(void *context) \
	{ \
		(void)context; \
		return 0; \
	}

PROBE(on_tp, "tp/sched/sched_process_exec")
PROBE(on_raw_tp, "raw_tp/sched_process_exec")
PROBE(on_tp_btf, "tp_btf/sched_process_exec")
PROBE(on_fentry, "fentry/do_exit")
PROBE(on_fexit, "fexit/begin_new_exec")
PROBE(on_kprobe, "kprobe/do_exit")
PROBE(on_kretprobe, "kretprobe/begin_new_exec")
PROBE(on_uprobe, "uprobe/libc.so.6:getdomainname")
PROBE(on_perf_event, "perf_event")
PROBE(on_lsm, "lsm/bprm_committed_creds")
PROBE(on_iter, "iter/task")

