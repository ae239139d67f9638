// SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause)
/* Maps that tell the kernel their sizes and nobody their types; plain numbers through a ring and perf buffer. */
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(key_size, 4);
	__uint(value_size, 8);
	__uint(max_entries, 1024);
} counts SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 1 << 16);
} pids SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERF_EVENT_ARRAY);
	__uint(key_size, 4);
	__uint(value_size, 4);
} times SEC(".maps");

SEC("tp/syscalls/sys_enter_getppid")
int on_getppid(void *ctx)
{
	__u32 pid = bpf_get_current_pid_tgid() >> 32;
	__u64 one = 1, now = bpf_ktime_get_ns(), *count = bpf_map_lookup_elem(&counts, &pid);

	if (count)
		__sync_fetch_and_add(count, 1);
	else
		bpf_map_update_elem(&counts, &pid, &one, BPF_ANY);
	bpf_ringbuf_output(&pids, &pid, sizeof(pid), 0);
	bpf_perf_event_output(ctx, &times, BPF_F_CURRENT_CPU, &now, sizeof(now));
	return 0;
}

char LICENSE[] SEC("license") = "GPL";
