# SPDX-License-Identifier: BSD-2-Clause
"""Describes the binding to cffi; setup.py has it compiled to ``eunomia/_native.abi3.so``."""

from __future__ import annotations

from pathlib import Path

from cffi import FFI

_HERE = Path(__file__).resolve().parent

# libbpf's own calls, as Debian 12's 1.1 declares them.
_LIBBPF = """
struct bpf_object; struct bpf_program; struct bpf_map; struct bpf_link; struct btf;

int bpf_object__load(struct bpf_object *obj);
void bpf_object__close(struct bpf_object *obj);
struct btf *bpf_object__btf(const struct bpf_object *obj);
const void *btf__raw_data(const struct btf *btf, uint32_t *size);

struct bpf_program *bpf_object__next_program(const struct bpf_object *obj, struct bpf_program *prog);
const char *bpf_program__name(const struct bpf_program *prog);
const char *bpf_program__section_name(const struct bpf_program *prog);
int bpf_program__type(const struct bpf_program *prog);
int bpf_program__expected_attach_type(const struct bpf_program *prog);
int bpf_program__set_expected_attach_type(struct bpf_program *prog, int type);
bool bpf_program__autoload(const struct bpf_program *prog);
int bpf_program__set_autoload(struct bpf_program *prog, bool autoload);
int bpf_program__fd(const struct bpf_program *prog);
struct bpf_link *bpf_program__attach(const struct bpf_program *prog);
struct bpf_link *bpf_program__attach_cgroup(const struct bpf_program *prog, int cgroup_fd);
struct bpf_link *bpf_program__attach_raw_tracepoint(const struct bpf_program *prog, const char *tp_name);
struct bpf_link *bpf_program__attach_usdt(const struct bpf_program *prog, int pid, const char *binary_path,
                                          const char *usdt_provider, const char *usdt_name, const void *opts);
int bpf_program__set_attach_target(struct bpf_program *prog, int attach_prog_fd, const char *attach_func_name);
int bpf_program__set_type(struct bpf_program *prog, int type);
int bpf_link__fd(const struct bpf_link *link);
int bpf_link_update(int link_fd, int new_prog_fd, const void *opts);
int bpf_link__destroy(struct bpf_link *link);
int bpf_iter_create(int link_fd);
const char *libbpf_bpf_prog_type_str(int t);
const char *libbpf_bpf_map_type_str(int t);

struct bpf_map *bpf_object__next_map(const struct bpf_object *obj, const struct bpf_map *map);
const char *bpf_map__name(const struct bpf_map *map);
int bpf_map__fd(const struct bpf_map *map);
int bpf_map__type(const struct bpf_map *map);
uint32_t bpf_map__key_size(const struct bpf_map *map);
uint32_t bpf_map__value_size(const struct bpf_map *map);
uint32_t bpf_map__max_entries(const struct bpf_map *map);
uint32_t bpf_map__btf_key_type_id(const struct bpf_map *map);
uint32_t bpf_map__btf_value_type_id(const struct bpf_map *map);
int bpf_map__set_value_size(struct bpf_map *map, uint32_t size);
struct bpf_map *bpf_map__inner_map(struct bpf_map *map);
int bpf_map__set_key_size(struct bpf_map *map, uint32_t size);
int bpf_map__set_max_entries(struct bpf_map *map, uint32_t max_entries);
int bpf_map__set_autocreate(struct bpf_map *map, bool autocreate);
int bpf_map__set_pin_path(struct bpf_map *map, const char *path);
const char *bpf_map__pin_path(const struct bpf_map *map);
int bpf_map__reuse_fd(struct bpf_map *map, int fd);
bool bpf_map__is_internal(const struct bpf_map *map);
uint32_t bpf_map__map_flags(const struct bpf_map *map);
uint64_t bpf_map__map_extra(const struct bpf_map *map);

int bpf_map_update_elem(int fd, const void *key, const void *value, uint64_t flags);
int bpf_map_lookup_elem(int fd, const void *key, void *value);
int bpf_map_delete_elem(int fd, const void *key);
int bpf_map_get_next_key(int fd, const void *key, void *next_key);
int libbpf_num_possible_cpus(void);
uint32_t libbpf_major_version(void);
uint32_t libbpf_minor_version(void);
int libbpf_probe_bpf_map_type(int map_type, const void *opts);
int libbpf_probe_bpf_prog_type(int prog_type, const void *opts);
"""

# The C library's, for eunomia.containers.file_watcher.
_INOTIFY = """
int inotify_init1(int flags);
int inotify_add_watch(int fd, const char *pathname, uint32_t mask);
int inotify_rm_watch(int fd, int wd);
"""


def _declarations() -> str:
    """Return native.h without its preprocessor lines; cffi reads the rest as it is."""
    lines = (_HERE / "native.h").read_text().splitlines()
    return "\n".join(line for line in lines if not line.startswith("#"))


_SOURCES = ("native", "attach", "ring", "perf", "early", "tables", "columns", "text", "kernel_btf", "hooks", "confine")

ffi = FFI()
ffi.cdef(_LIBBPF + _INOTIFY + _declarations())
ffi.set_source(
    "eunomia._native",
    '#include <sys/inotify.h>\n#include "native.h"',
    sources=[f"src/eunomia/native/{name}.c" for name in _SOURCES],
    include_dirs=["src/eunomia/native"],
    libraries=["bpf"],
    extra_compile_args=["-O2", "-Wall", "-Wextra", "-Werror"],
    py_limited_api=True,
)

if __name__ == "__main__":
    ffi.compile(verbose=True)
