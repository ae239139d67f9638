// SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause)
/* Every kind of thing that a loader would set; one record per getppid() says what the program sees. */
#include <linux/bpf.h>
#include <linux/types.h>
#include <bpf/bpf_helpers.h>

enum mode { OFF, SLOW = 5 };

struct limits {
	__u32 low;
	__u64 high;
};

const volatile struct {
	struct limits limits;
	__u16 ports[4];
	enum mode mode;
	char comm[16];
	unsigned int narrow : 3, wide : 9;
	union {
		__u32 word;
		__u8 bytes[4];
	};
} cfg = { .limits = { 1, 2 }, .ports = { 22, 80 } };

const volatile unsigned __int128 huge;
__u32 target = 0;
__u32 apart SEC(".data.apart") = 7;
__u16 empty SEC(".bss.empty");
const volatile __u8 fixed SEC(".rodata.fixed") = 9;

struct flow {
	__u32 address;
	__u16 port;
	__u16 pad;
};

struct trie_key {
	__u32 length;
	__u8 address[4];
};

#define TABLE(name, type_, key_, value_, flags) struct { \
	__uint(type, type_); __uint(max_entries, 4); __uint(map_flags, flags); \
	__type(key, key_); __type(value, value_); } name SEC(".maps")

TABLE(by_name, BPF_MAP_TYPE_HASH, char[16], struct limits, 0);
TABLE(by_flow, BPF_MAP_TYPE_HASH, struct flow, __u64, 0);
TABLE(by_index, BPF_MAP_TYPE_ARRAY, __u32, struct limits, 0);
TABLE(each_cpu, BPF_MAP_TYPE_PERCPU_ARRAY, __u32, __u64, 0);
TABLE(prefixes, BPF_MAP_TYPE_LPM_TRIE, struct trie_key, __u32, BPF_F_NO_PREALLOC);

struct {
	__uint(type, BPF_MAP_TYPE_PROG_ARRAY);
	__uint(key_size, 4);
	__uint(value_size, 4);
} tails SEC(".maps");

struct seen {
	__u32 pid, low, port, mode, narrow, wide, second;
	__u32 target, apart, empty, fixed, index_high, prefix;
	__u64 high, huge_top, name_high, flow, cpu;
	char comm[16];
};

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__type(value, struct seen);
} rb SEC(".maps");

char LICENSE[] SEC("license") = "GPL";

SEC("tp/syscalls/sys_enter_getppid")
int look(void *ctx)
{
	struct trie_key inside = { 32, { 10, 1, 2, 3 } };
	struct flow flow = { __builtin_bswap32(0x7f000001), 53 };
	char name[16] = "a=b].c";
	struct limits *limits;
	struct seen *seen;
	__u32 one = 1, *word;
	__u64 *number;

	seen = bpf_ringbuf_reserve(&rb, sizeof(*seen), 0);
	if (!seen)
		return 0;
	__builtin_memset(seen, 0, sizeof(*seen));
	seen->pid = bpf_get_current_pid_tgid() >> 32;
	seen->low = cfg.limits.low;
	seen->high = cfg.limits.high;
	seen->port = cfg.ports[2];
	seen->mode = cfg.mode;
	seen->narrow = cfg.narrow;
	seen->wide = cfg.wide;
	seen->second = cfg.bytes[1];
	seen->huge_top = huge >> 64;
	seen->target = target;
	seen->apart = apart;
	seen->empty = empty;
	seen->fixed = fixed;
	for (int i = 0; i < 16; i++)
		seen->comm[i] = cfg.comm[i];
	limits = bpf_map_lookup_elem(&by_name, name);
	if (limits)
		seen->name_high = limits->high;
	number = bpf_map_lookup_elem(&by_flow, &flow);
	if (number)
		seen->flow = *number;
	limits = bpf_map_lookup_elem(&by_index, &one);
	if (limits)
		seen->index_high = limits->high;
	number = bpf_map_lookup_elem(&each_cpu, &one);
	if (number)
		seen->cpu = *number;
	word = bpf_map_lookup_elem(&prefixes, &inside);
	if (word)
		seen->prefix = *word;
	bpf_ringbuf_submit(seen, 0);
	return 0;
}
