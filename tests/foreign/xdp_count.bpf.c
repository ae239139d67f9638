// SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause)
/* Packets by protocol of an interface. */
#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/ip.h>
#include <bpf/bpf_helpers.h>

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 256);
	__type(key, __u32);
	__type(value, __u64);
} packets SEC(".maps");

SEC("xdp")
int count(struct xdp_md *ctx)
{
	void *end = (void *)(long)ctx->data_end;
	struct ethhdr *eth = (void *)(long)ctx->data;
	struct iphdr *ip = (void *)(eth + 1);
	__u32 protocol;
	__u64 *seen;

	if ((void *)(ip + 1) > end)
		return XDP_PASS;
	protocol = ip->protocol;
	seen = bpf_map_lookup_elem(&packets, &protocol);
	if (seen)
		(*seen)++;
	return XDP_PASS;
}

char LICENSE[] SEC("license") = "GPL";
