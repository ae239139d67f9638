# SPDX-License-Identifier: BSD-2-Clause
"""Checks of the kernel: release, BTF, JIT, tracepoints, processors, clock."""

from __future__ import annotations

import os
from collections.abc import Iterator

from eunomia.cli.checks import FAIL, OK, UNKNOWN, WARN, Finding, read
from eunomia.kernel.attach import online_cpus
from eunomia.kernel.libbpf import lib
from eunomia.kernel.rights import privileged

_BTF = "/sys/kernel/btf/vmlinux"
_BUILT_FOR = ("x86_64", "aarch64")
_SLOW_CLOCKS = frozenset({"acpi_pm", "hpet", "jiffies", "pit", "refined-jiffies"})
_MANY = 64  # CPUs beyond those online whose memory is worth a warning


def findings() -> Iterator[Finding]:
    """Yield the findings about the kernel."""
    yield _release()
    yield _btf()
    yield _jit()
    yield _stats()
    yield _tracepoints()
    yield _cpus()
    yield _clock()


def _release() -> Finding:
    system = os.uname()
    found = f"{system.sysname} {system.release} on {system.machine}"
    if system.machine in _BUILT_FOR:
        return Finding("kernel", OK, found)
    return Finding("kernel", FAIL, found, f"the trackers are for {' and '.join(_BUILT_FOR)}")


def _btf() -> Finding:
    if not os.path.exists("/sys/kernel"):
        return Finding("BTF", FAIL, "/sys is not mounted here", "mount -t sysfs sysfs /sys")
    if not os.path.exists(_BTF):
        return Finding(
            "BTF",
            FAIL,
            f"{_BTF} is missing",
            "run a kernel with CONFIG_DEBUG_INFO_BTF=y, as distributions build them",
        )
    if not os.access(_BTF, os.R_OK):
        return Finding("BTF", FAIL, f"{_BTF} cannot be read", "mount sysfs at /sys, readable by all")
    return Finding("BTF", OK, f"{_BTF}, {os.path.getsize(_BTF) / 1e6:.1f} MB")


def _jit() -> Finding:
    value = read("/proc/sys/net/core/bpf_jit_enable")
    if value is None:
        return Finding(
            "JIT", UNKNOWN, "net.core.bpf_jit_enable can be read by root only, in the first network namespace"
        )
    if value == "0":
        return Finding("JIT", WARN, "off: programs are interpreted, slowly", "sysctl -w net.core.bpf_jit_enable=1")
    if value == "2":
        return Finding("JIT", WARN, "on, and each program is written to the log", "sysctl -w net.core.bpf_jit_enable=1")
    return Finding("JIT", OK, "on")


def _stats() -> Finding:
    value = read("/proc/sys/kernel/bpf_stats_enabled")
    if value is None:
        return Finding("BPF statistics", UNKNOWN, "kernel.bpf_stats_enabled cannot be read")
    if value != "0":
        return Finding(
            "BPF statistics",
            WARN,
            "on: each run of a program is timed",
            "sysctl -w kernel.bpf_stats_enabled=0",
        )
    return Finding("BPF statistics", OK, "off, so programs have no extra cost")


def _tracepoints() -> Finding:
    if lib.eu_tracepoint_exists(b"sched", b"sched_process_exec"):
        return Finding("tracepoints", OK, "tracefs has them, mounted or not")
    if not privileged():
        return Finding("tracepoints", UNKNOWN, "tracefs can be read by root only")
    return Finding(
        "tracepoints", FAIL, "tracefs is not available",
        "mount -t tracefs nodev /sys/kernel/tracing, on a kernel with CONFIG_TRACEPOINTS",
    )  # fmt: skip


def _cpus() -> Finding:
    if read("/sys/devices/system/cpu/possible") is None:
        return Finding("CPUs", UNKNOWN, f"{len(online_cpus())} online; how many are possible cannot be read")
    online, possible = len(online_cpus()), int(lib.libbpf_num_possible_cpus())
    found = f"{online} online, {possible} possible"
    if possible - online > _MANY:
        return Finding("CPUs", WARN, f"{found}: per-CPU maps take memory for all", f"boot with possible_cpus={online}")
    return Finding("CPUs", OK, found)


def _clock() -> Finding:
    source = read("/sys/devices/system/clocksource/clocksource0/current_clocksource")
    if source is None:
        return Finding("clock", UNKNOWN, "the clock source cannot be read")
    if source in _SLOW_CLOCKS:
        return Finding("clock", WARN, f"{source}: slow to read, and each event reads it", "boot with tsc=reliable")
    return Finding("clock", OK, source)
