#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-2-Clause
"""Write src/eunomia/tables/syscalls.py from the kernel's own headers (Debian: linux-libc-dev).

usage: tools/gen_syscalls.py >src/eunomia/tables/syscalls.py
"""

from __future__ import annotations

import re
import subprocess
import textwrap

# Newer than the headers of Debian 12; from 424 on, a call has the same number on every architecture.
NEWER = (
    "cachestat fchmodat2 map_shadow_stack futex_wake futex_wait futex_requeue statmount listmount "
    "lsm_get_self_attr lsm_set_self_attr lsm_list_modules mseal setxattrat getxattrat listxattrat removexattrat "
    "open_tree_attr file_getattr file_setattr"
).split()


def read(header: str, *flags: str) -> dict[int, str]:
    """Return number -> name of the system calls that a header defines."""
    macros = subprocess.run(
        ["gcc", "-E", "-dM", *flags, "-include", header, "-"], input="", capture_output=True, text=True, check=True
    ).stdout
    plain = dict(re.findall(r"^#define __NR3264_(\w+) (\d+)$", macros, re.M))
    calls = {}
    for name, value in re.findall(r"^#define __NR_(\w+) (\S+)$", macros, re.M):
        number = value if value.isdigit() else plain.get(value.removeprefix("__NR3264_"), "")
        if number and name not in {"syscalls", "arch_specific_syscall"}:
            calls[int(number)] = name
    calls |= {451 + i: name for i, name in enumerate(NEWER)}
    return dict(sorted(calls.items()))


def show(calls: dict[int, str]) -> str:
    words, previous = [], -1
    for number, name in calls.items():
        if number != previous + 1:
            words.append(f"@{number}")
        words.append(name)
        previous = number
    return "\n".join(textwrap.wrap(" ".join(words), 100, initial_indent="    ", subsequent_indent="    "))


def x32_calls() -> dict[int, str]:
    """Return number without the bit -> name of the calls by the x32 ABI."""
    text = open("/usr/include/x86_64-linux-gnu/asm/unistd_x32.h", encoding="ascii").read()
    found = {int(n): name for name, n in re.findall(r"#define __NR_(\w+) \(__X32_SYSCALL_BIT \+ (\d+)\)", text)}
    return dict(sorted((found | {451 + i: name for i, name in enumerate(NEWER)}).items()))


generic = read("asm-generic/unistd.h", "-D__BITS_PER_LONG=64", "-D__ARCH_WANT_RENAMEAT", "-D__ARCH_WANT_NEW_STAT")
print(f'''# SPDX-License-Identifier: BSD-2-Clause
"""Names of system calls by number. Made by tools/gen_syscalls.py; do not edit."""

import os

# "@n" sets the next name's number.
X86_64 = """
{show(read("asm/unistd_64.h"))}
"""

_X32 = """
{show(x32_calls())}
"""

GENERIC = """
{show(generic)}
"""


def read(table: str) -> dict[int, str]:
    """Return the names of a table by number."""
    names, number = {{}}, 0
    for word in table.split():
        if word[0] == "@":
            number = int(word[1:])
        else:
            names[number] = word
            number += 1
    return names


NAMES: dict[int, str] = read(X86_64 if os.uname().machine == "x86_64" else GENERIC)

# By the x32 ABI, without __X32_SYSCALL_BIT.
X32: dict[int, str] = read(_X32)''')
