/* SPDX-License-Identifier: BSD-2-Clause */
/* The binding: what libbpf does not offer, or what is too slow in Python. */
#ifndef EUNOMIA_NATIVE_H
#define EUNOMIA_NATIVE_H

#include <stddef.h>
#include <stdint.h>

#include <bpf/bpf.h>
#include <bpf/btf.h>
#include <bpf/libbpf.h>

#define EU_MAX_STRINGS 32

struct eu_ring;
struct eu_perf;
struct eu_early;
struct eu_table;

struct eu_drained {
	size_t records;		/* written to `data` */
	size_t heap;		/* bytes written to `heap` */
	size_t odd;		/* records shorter than the fixed part, filled with zeros */
	size_t waiting;		/* bytes left in the ring */
	size_t codes;		/* distinct values of what is coded, 0 where they are too many */
	int untidy;		/* whether a path has "/." or "//" in it */
};

/* How the CPUs' numbers are merged; EU_ONE takes one CPU's. */
enum eu_rule { EU_SUM, EU_GREATEST, EU_LEAST, EU_ONE };

/* Numbers, or bytes, side by side in each CPU's value, and where what they become stands in a row's value. */
struct eu_part {
	uint32_t rule;
	uint32_t at, to;
	uint32_t size, wide;	/* of each, in a CPU's value and in the row's */
	uint32_t count;
	uint8_t is_signed, is_real;
	uint8_t shift, bits;	/* of a bit field; else bits is 0 */
};

/* How a map's entries become rows: the key, from the next multiple of 8 the value. */
struct eu_table_plan {
	uint32_t key_size;
	uint32_t value_size;	/* of one CPU, padded to 8 bytes where there are several */
	uint32_t cpus;		/* values of an entry: 1 except for per-CPU maps */
	uint32_t max_entries;
	uint32_t row_value_size;
	int32_t clock_at;	/* where a value says when it was written; -1: it does not */
	uint8_t keep_zeros;	/* whether entries whose values are zero on all CPUs are rows */
	uint8_t row_per_cpu;	/* a row for each CPU that has something, its number behind the value */
	size_t part_count;
};

void eu_log_start(void);
size_t eu_log_take(char *out, size_t size);

struct bpf_object *eu_open(const void *data, size_t size, const char *name, const char *kernel_btf);
int eu_reduced_btf(const struct bpf_object *object, int fd);
void eu_forget_kernel_btf(void);
int eu_kernel_enum(const char *type, const char *name);
int eu_kernel_type(const char *name, uint32_t kind);
int eu_kernel_functions(const char *names, size_t count, uint32_t *ids, uint32_t *prototypes);
int eu_kernel_member(const char *type, const char *name);
void *eu_map_memory(struct bpf_map *map, size_t *ret);
void *eu_map_mmap(int fd, size_t size);
void eu_map_munmap(void *memory, size_t size);
int eu_recursion_misses(int prog_fd, uint64_t *ret);
int eu_host_pid(void);
int eu_program_code(int prog_fd, uint64_t *starts, uint64_t *ends, uint32_t room);
int64_t eu_kernel_time(void);

struct bpf_link *eu_attach_tracepoint(struct bpf_program *prog, const char *category, const char *name);
struct bpf_link *eu_attach_sampling(struct bpf_program *prog, int cpu, uint32_t type, uint64_t config,
				    uint64_t rate, int freq);
struct bpf_link *eu_attach_uprobe(struct bpf_program *prog, int retprobe, int pid, const char *binary,
				  const char *function, size_t offset);
struct bpf_link *eu_attach_kprobe(struct bpf_program *prog, int retprobe, const char *function, size_t offset);
struct bpf_link *eu_attach_ksyscall(struct bpf_program *prog, int retprobe, const char *name);
int eu_link_to_device(int prog_fd, int device, int attach_type, uint32_t flags);
int eu_tc_attach(int prog_fd, int device, int egress, uint32_t *handle, uint32_t *priority, int *made);
int eu_tc_replace(int prog_fd, int device, int egress, uint32_t handle, uint32_t priority);
void eu_tc_detach(int device, int egress, uint32_t handle, uint32_t priority, int made);
struct bpf_link *eu_attach_iter(struct bpf_program *prog, int map_fd, int cgroup_fd, uint32_t pid);
int eu_tracepoint_exists(const char *category, const char *name);
long eu_tracepoint_id(const char *category, const char *name);
int eu_open_tracepoint(long id);

int eu_load_code(int type, int attach_type, int btf_id, const char *name, const void *code, size_t count);
int eu_load_like(int prog_fd, int attach_type, const char *name, const void *code, size_t count);
int eu_calls_helper(const struct bpf_program *prog, int helper);
int eu_context_words(int prog_fd);
int eu_fits_tracepoint(int prog_fd, const char *category, const char *name);
int eu_create_map(int type, const char *name, uint32_t key_size, uint32_t value_size, uint32_t entries);
void eu_know_sections(void);
int eu_find_syscall_hooks(void);
void eu_use_function(int btf_id);
int eu_attach_raw(int prog_fd, const char *name);
int eu_attach_event(int prog_fd, const char *category, const char *name);

int eu_shrink_bounding_set(uint64_t keep);
int eu_keep_capabilities(uint64_t keep);
int eu_become(unsigned int id);
int eu_leave_network(int in_user_namespace);
int eu_prctl(int option, unsigned long value);
int eu_only_compute(void);

void eu_keep_memory(void);
struct eu_ring *eu_ring_open(int fd, size_t size);
void eu_ring_close(struct eu_ring *ring);
void eu_ring_layout(struct eu_ring *ring, size_t fixed, const uint32_t *strings, size_t count, uint32_t paths);
int eu_ring_code(struct eu_ring *ring, size_t offset);
const uint64_t *eu_ring_codes(const struct eu_ring *ring);
int eu_ring_drain(struct eu_ring *ring, char *data, size_t data_size, char *heap, size_t heap_size, uint32_t *index,
		  struct eu_drained *ret);
void eu_ring_skip(struct eu_ring *ring);
size_t eu_ring_waiting(const struct eu_ring *ring);
uint64_t eu_ring_consumed(const struct eu_ring *ring);
uint64_t eu_ring_produced(const struct eu_ring *ring);
int eu_any_waiting(struct eu_ring **rings, size_t count);

struct eu_perf *eu_perf_open(int fd, size_t pages);
void eu_perf_close(struct eu_perf *perf);
int eu_perf_fd(const struct eu_perf *perf);
int eu_perf_drain(struct eu_perf *perf, char *data, size_t data_size, char *heap, size_t heap_size,
		  struct eu_drained *ret, uint64_t *lost);

struct eu_table *eu_table_open(const struct eu_table_plan *plan, const struct eu_part *parts, size_t count);
void eu_table_close(struct eu_table *table);
long eu_table_read(struct eu_table *table, int fd, int empty, const char **ret);
long eu_table_rows(struct eu_table *table, const char *keys, const char *values, size_t count, const char **ret);

int eu_wait(int epoll_fd, uint32_t **armed, size_t armed_count, struct eu_ring **rings, size_t ring_count,
	    int milliseconds, int look);
void eu_settle(void);
void eu_sleep(int milliseconds);

struct eu_early *eu_early_open(int ring_fd);
void eu_early_close(struct eu_early *early);
int eu_early_places(struct eu_early *early, const char *pairs, size_t size);
long eu_early_find(struct eu_early *early, const char *path, char *out, size_t room, int64_t *ret);

enum { EU_BYTES, EU_TEXT, EU_HEAP };

struct eu_span {
	uint32_t offset, size;	/* in the record */
	uint32_t kind;		/* EU_BYTES; EU_TEXT: up to the first NUL; EU_HEAP: a place in the heap */
};

long eu_code(const char *data, size_t stride, size_t count, const char *heap, size_t heap_size, uint32_t heap_at,
	     const struct eu_span *spans, size_t span_count, size_t most, uint32_t *first, uint32_t *index);
size_t eu_select(const char *mask, size_t count, const char *data, size_t stride, char *out);
long eu_select_packed(const char *mask, size_t count, const char *data, size_t stride, char *out,
		      const uint32_t *strings, size_t string_count, const char *heap, size_t heap_size,
		      uint32_t heap_at, char *heap_out);
void eu_rfc3339(const char *data, size_t stride, size_t offset, size_t count, int64_t clock, char *out);

enum { EU_UNSIGNED, EU_SIGNED, EU_TIME, EU_CHARS, EU_STRING, EU_PATH, EU_EACH, EU_CODED, EU_SAME };

/* Where rows are written, one after another; memory stays from one batch to the next. */
struct eu_text {
	char *text;
	size_t size, room;
};

struct eu_json_part {
	const char *label;
	size_t label_size;
	uint32_t kind;
	uint32_t offset, size;	/* in the record, of what is written from there */
	const char *values;	/* of the others, in JSON: a line a row, a line a distinct value, or the one */
	size_t values_size;
	const uint32_t *index;	/* which line each row has */
};

long eu_json(const struct eu_json_part *parts, size_t part_count, const char *data, size_t stride, size_t count,
	     int64_t clock, const char *heap, size_t heap_size, uint32_t heap_at, uint32_t *ends, struct eu_text *text);
void eu_text_free(struct eu_text *text);

#endif
