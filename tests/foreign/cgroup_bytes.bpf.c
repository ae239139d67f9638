// SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause)
/* Bytes by direction and protocol of all that a cgroup sends and receives. */
#include <linux/bpf.h>
#include <linux/ip.h>
#include <bpf/bpf_helpers.h>

struct flow {
	__u64 cgroup;
	__u8 egress;
	__u8 protocol;
	__u16 pad;
	__u32 pad2;
};

struct traffic {
	__u64 packets;
	__u64 bytes;
};

struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 4096);
	__type(key, struct flow);
	__type(value, struct traffic);
} flows SEC(".maps");

static __always_inline int account(struct __sk_buff *skb, __u8 egress)
{
	struct flow flow = {.egress = egress};
	struct traffic new = {.packets = 1, .bytes = skb->len}, *seen;
	struct iphdr ip;

	if (bpf_skb_load_bytes(skb, 0, &ip, sizeof(ip)) < 0)
		return 1;
	flow.cgroup = bpf_skb_cgroup_id(skb);
	flow.protocol = ip.protocol;
	seen = bpf_map_lookup_elem(&flows, &flow);
	if (seen) {
		__sync_fetch_and_add(&seen->packets, 1);
		__sync_fetch_and_add(&seen->bytes, skb->len);
	} else {
		bpf_map_update_elem(&flows, &flow, &new, BPF_ANY);
	}
	return 1;
}

SEC("cgroup_skb/egress")
int egress(struct __sk_buff *skb)
{
	return account(skb, 1);
}

SEC("cgroup_skb/ingress")
int ingress(struct __sk_buff *skb)
{
	return account(skb, 0);
}

char LICENSE[] SEC("license") = "GPL";
