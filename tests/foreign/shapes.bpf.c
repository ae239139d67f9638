// SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause)
/* All shapes a struct can have: bit fields, nested and anonymous structs, unions, enums, matrices, addresses. */
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

enum verdict { ALLOW, DENY = 7, ASK = 9 };

typedef __u32 ipv4_t;

struct endpoint {
	ipv4_t address;
	__u16 port;
};

struct shapes {
	__u64 when;
	enum verdict verdict;
	unsigned urgent : 1;
	unsigned level : 3;
	int delta : 5;
	struct endpoint from;
	struct {
		__u8 hops;
		_Bool seen;
	};
	union {
		__u32 word;
		__u8 bytes[4];
	} raw;
	__s16 grid[2][3];
	void *where;
	char comm[16];
};

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 1 << 18);
} seen SEC(".maps");

SEC("tp/syscalls/sys_enter_getppid")
int on_getppid(void *ctx)
{
	struct shapes s;

	__builtin_memset(&s, 0, sizeof(s));
	s.when = bpf_ktime_get_ns();
	s.verdict = ASK;
	s.urgent = 1;
	s.level = 5;
	s.delta = -3;
	s.from.address = 0x0100007f;
	s.from.port = 8080;
	s.hops = 4;
	s.seen = 1;
	s.raw.word = 0x04030201;
	s.grid[0][1] = -2;
	s.grid[1][2] = 6;
	s.where = (void *)0xffff888000000000;
	bpf_get_current_comm(s.comm, sizeof(s.comm));
	bpf_ringbuf_output(&seen, &s, sizeof(s), 0);
	return 0;
}

char LICENSE[] SEC("license") = "GPL";
