// SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause)
/*
 * What do a foreign object's programs print by bpf_printk()?
 *
 * The tracepoint by which the kernel itself writes it to the trace pipe fires in the middle of the program
 * that prints. A raw tracepoint's program runs even then, where one of perf's would be skipped, and leaves
 * nothing behind in tracefs. The stack says which program printed.
 */
#include <eunomia/types.h>
#include <eunomia/kernel.h>
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_core_read.h>
#include <bpf/bpf_tracing.h>
#include <eunomia/cgroup.h>
#include <eunomia/stream.h>

char LICENSE[] SEC("license") = "Dual BSD/GPL";

#define TEXT_MAX 1024		/* bytes, as many as the kernel prints; earlier ones print 512 */
#define FRAMES 10		/* of the stack: the kernel's own are five or so */
#define FUNCTIONS 256		/* of the object that is followed */

struct printed {
	time_ns_t time doc("when it was printed");
	cgroup_id_t cgroup_id doc("cgroup of the task that the program ran in");
	pid_t pid doc("process that the program ran in, as the host sees it");
	__u32 cpu doc("processor it ran on");
	char comm[16] doc("command name of the thread");
	__u32 program doc("which program printed it");
	str_t text doc("what it printed");
} doc("what programs print by bpf_printk()");

STREAM(printk, struct printed, 1 << 20);

/* Where the code of the object's functions is: what others print is not shown. None: all is shown. */
const volatile __u32 eunomia_functions = 0;
const volatile __u64 eunomia_starts[FUNCTIONS] = {};
const volatile __u64 eunomia_ends[FUNCTIONS] = {};

/* The program runs once on a CPU at a time: what the kernel skips for that it counts. */
struct room {
	struct printed event;
	char text[TEXT_MAX];
	__u64 stack[FRAMES];
};

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct room);
} rooms SEC(".maps");

/* Returns the number of the function that printed, -1 for another's. */
static __always_inline int printer(void *ctx, struct room *room)
{
	long size = bpf_get_stack(ctx, room->stack, sizeof(room->stack), 0);

	for (int i = 0; i < FRAMES; i++) {
		__u64 at = room->stack[i];

		if (size < (i + 1) * (long)sizeof(at))
			break;
		for (__u32 j = 0; j < FUNCTIONS; j++) {
			if (j >= eunomia_functions)
				break;
			if (at >= eunomia_starts[j] && at < eunomia_ends[j])
				return j;
		}
	}
	return -1;
}

SEC("raw_tp/bpf_trace_printk")
int printk_seen(struct bpf_raw_tracepoint_args *ctx)
{
	__u32 zero = 0;
	struct room *room = bpf_map_lookup_elem(&rooms, &zero);
	struct printed *event;
	int program = 0;
	long length;

	if (!room)
		return 0;
	if (eunomia_functions) {
		program = printer(ctx, room);
		if (program < 0)
			return 0;
	}
	event = &room->event;
	event->time = bpf_ktime_get_ns();
	event->cgroup_id = eunomia_cgroup();
	event->pid = bpf_get_current_pid_tgid() >> 32;
	event->cpu = bpf_get_smp_processor_id();
	bpf_get_current_comm(event->comm, sizeof(event->comm));
	event->program = program;
	length = bpf_probe_read_kernel_str(room->text, sizeof(room->text), (void *)ctx->args[0]);
	if (length < 1)
		length = 1;
	event->text.off = sizeof(*event);
	event->text.len = (length - 1) & (TEXT_MAX - 1);
	stream_output(printk, event, sizeof(*event) + event->text.len);
	return 0;
}
