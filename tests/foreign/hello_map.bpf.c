// SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause)
/* A hash map that counts by a key struct: nothing is sent, the map is the result. */
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

struct key_t {
	__u32 uid;
	__u32 pid;
	char comm[16];
};

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 10240);
	__type(key, struct key_t);
	__type(value, __u64);
} counter_table SEC(".maps");

SEC("tp/syscalls/sys_enter_getppid")
int hello(void *ctx)
{
	struct key_t key = {};
	__u64 one = 1, *count;

	key.uid = bpf_get_current_uid_gid();
	key.pid = bpf_get_current_pid_tgid() >> 32;
	bpf_get_current_comm(key.comm, sizeof(key.comm));
	count = bpf_map_lookup_elem(&counter_table, &key);
	if (count)
		__sync_fetch_and_add(count, 1);
	else
		bpf_map_update_elem(&counter_table, &key, &one, BPF_NOEXIST);
	return 0;
}

char LICENSE[] SEC("license") = "GPL";
