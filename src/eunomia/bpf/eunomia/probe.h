/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* Everything that most probes need. Works without a vmlinux.h, or with one that is included first. */
#ifndef EUNOMIA_PROBE_H
#define EUNOMIA_PROBE_H

#include <eunomia/types.h>
#include <eunomia/kernel.h>
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_core_read.h>
#include <bpf/bpf_tracing.h>
#include <eunomia/cgroup.h>
#include <eunomia/stream.h>
#include <eunomia/filter.h>

char LICENSE[] SEC("license") = "Dual BSD/GPL";

#endif
