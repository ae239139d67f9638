/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The yardstick: libbpf's own ring_buffer callback in C over flood.bpf.o, looked at every 5 ms.
 *
 *	ring flood.bpf.o PID [MILLISECONDS]
 *
 * Says "ready" when attached; at SIGTERM empties the ring and prints one line of JSON.
 */
#define _GNU_SOURCE
#include <bpf/bpf.h>
#include <bpf/btf.h>
#include <bpf/libbpf.h>
#include <err.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

/* As in flood.bpf.c. */
struct event {
	__u64 time, cgroup, sequence;
	__u32 pid, tid, uid, gid, syscall, cpu;
	char comm[16];
};

struct seen {
	unsigned long long events, last, touched;
};

static volatile sig_atomic_t stopped;

static void stop(int signo)
{
	(void)signo;
	stopped = 1;
}

static int on_event(void *context, void *data, size_t size)
{
	struct seen *seen = context;
	const struct event *event = data;

	if (size < sizeof(*event))
		return 0;
	seen->events++;
	seen->last = event->sequence;
	/* a monitor looks at what it gets: who, where and what */
	seen->touched += event->time ^ event->cgroup ^ event->pid ^ event->uid ^ event->syscall ^ event->comm[0];
	return 0;
}

static long long cpu_ns(void)
{
	struct rusage use;

	getrusage(RUSAGE_SELF, &use);
	return (use.ru_utime.tv_sec + use.ru_stime.tv_sec) * 1000000000LL +
	       (use.ru_utime.tv_usec + use.ru_stime.tv_usec) * 1000LL;
}

static void set_target(struct bpf_object *object, struct bpf_map *rodata, __u32 target)
{
	const struct btf *btf = bpf_object__btf(object);
	const struct btf_type *section = btf__type_by_id(btf, bpf_map__btf_value_type_id(rodata));
	const struct btf_var_secinfo *variable = btf_var_secinfos(section);
	size_t size;
	const void *initial = bpf_map__initial_value(rodata, &size);
	char settings[size];

	memcpy(settings, initial, size);
	for (int i = 0; i < btf_vlen(section); i++, variable++) {
		const struct btf_type *type = btf__type_by_id(btf, variable->type);

		if (!strcmp(btf__name_by_offset(btf, type->name_off), "target"))
			memcpy(settings + variable->offset, &target, sizeof(target));
	}
	if (bpf_map__set_initial_value(rodata, settings, size))
		err(1, "%s", bpf_map__name(rodata));
}

static struct bpf_object *load(const char *path, __u32 target)
{
	struct bpf_object *object = bpf_object__open_file(path, NULL);
	struct bpf_program *program;
	struct bpf_map *map;

	if (!object)
		err(1, "%s", path);
	bpf_object__for_each_map(map, object) {
		if (bpf_map__type(map) == BPF_MAP_TYPE_RINGBUF)
			bpf_map__set_value_size(map, 0); /* the stream's type stands there, the kernel wants none */
		if (strstr(bpf_map__name(map), ".rodata"))
			set_target(object, map, target);
	}
	if (bpf_object__load(object))
		err(1, "load %s", path);
	bpf_object__for_each_program(program, object) {
		if (!bpf_program__attach(program))
			err(1, "attach %s", bpf_program__name(program));
	}
	return object;
}

int main(int argc, char **argv)
{
	struct sigaction on_stop = {.sa_handler = stop};
	struct timespec rest = {0, 5000000};
	struct seen seen = {0};
	struct ring_buffer *ring;
	struct bpf_object *object;
	long long began, spent;

	if (argc < 3)
		errx(2, "usage: %s OBJECT PID [MILLISECONDS]", argv[0]);
	if (argc > 3)
		rest.tv_nsec = atoi(argv[3]) * 1000000L;
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	sigaction(SIGTERM, &on_stop, NULL);
	sigaction(SIGINT, &on_stop, NULL);
	object = load(argv[1], atoi(argv[2]));
	ring = ring_buffer__new(bpf_object__find_map_fd_by_name(object, "events"), on_event, &seen, NULL);
	if (!ring)
		err(1, "ring");
	puts("ready");
	fflush(stdout);
	began = cpu_ns();
	while (!stopped) {
		nanosleep(&rest, NULL);
		ring_buffer__consume(ring);
	}
	ring_buffer__consume(ring);
	spent = cpu_ns() - began;
	printf("{\"events\": %llu, \"last\": %llu, \"cpu_ns\": %lld, \"cpu_ns_per_event\": %.1f, \"touched\": %llu}\n",
	       seen.events, seen.last, spent, seen.events ? (double)spent / seen.events : 0.0, seen.touched);
	ring_buffer__free(ring);
	bpf_object__close(object);
	return 0;
}
