#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-2-Clause
"""Write src/eunomia/bpf/eunomia/syscall_numbers.h from the kernel's own headers.

Debian: linux-libc-dev, and linux-libc-dev-armhf-cross for what 32-bit programs call on arm64.

usage: tools/gen_syscall_numbers.py >src/eunomia/bpf/eunomia/syscall_numbers.h
"""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "src"))
from eunomia.tables import syscalls

ARM = Path(os.environ.get("ARM_HEADERS", "/usr/arm-linux-gnueabihf/include"), "asm")
NONE = 9999
NO_CALLS: dict[str, int] = {}
NEWER = {number: name for number, name in syscalls.read(syscalls.X86_64).items() if number > 450}


def defined(*paths: str | Path) -> dict[str, int]:
    """Return name -> number of the calls that headers define, and of those that are newer than they."""
    text = "".join(Path(path).read_text(encoding="ascii") for path in paths)
    found = {
        name: int(n) for name, n in re.findall(r"#define __NR_(\w+)\s+\(?(?:__NR_SYSCALL_BASE ?\+ ?)?(\d+)\)?", text)
    }
    return found | {name: number for number, name in NEWER.items()}


def inverse(table: dict[int, str]) -> dict[str, int]:
    return {name: number for number, name in table.items()}


def show(native: dict[str, int], compat: dict[str, int], x32: dict[str, int]) -> str:
    names = sorted(native.keys() | compat.keys())
    rows = [f"{name} {native.get(name, NONE)}, {compat.get(name, NONE)}, {x32.get(name, NONE)}" for name in names]
    return "\n".join(f"#define EUNOMIA_CALL_{row}" for row in rows)


x86 = "/usr/include/x86_64-linux-gnu/asm/unistd_32.h"
print(f"""/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * System calls by name: the number by the native ABI, by the 32-bit one of the same machine, and by x32 (without its
 * bit); {NONE} where there is none. Made by tools/gen_syscall_numbers.py; do not edit.
 */
#ifndef EUNOMIA_SYSCALL_NUMBERS_H
#define EUNOMIA_SYSCALL_NUMBERS_H

#if defined(__TARGET_ARCH_x86)
{show(inverse(syscalls.read(syscalls.X86_64)), defined(x86), inverse(syscalls.X32))}
#elif defined(__TARGET_ARCH_arm64)
{show(inverse(syscalls.read(syscalls.GENERIC)), defined(ARM / "unistd-eabi.h"), NO_CALLS)}
#endif

#endif""")
