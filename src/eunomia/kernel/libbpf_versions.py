# SPDX-License-Identifier: BSD-2-Clause
"""The versions of libbpf that support sections which Debian 12's 1.1 does not; see decision 20."""

from __future__ import annotations

from collections.abc import Iterable

from eunomia.kernel.libbpf import lib

# The version that introduced each, by its list of exported functions and its releases; `False` if only an upper
# bound is known, from its source. A name that ends in `/` is a prefix. `tcx/` and `tc/ingress` are not listed:
# eunomia loads and attaches these itself.
_SINCE = (
    ("?.struct_ops", (1, 5), False),  # maps that are created only on request
    ("?.struct_ops.link", (1, 5), False),
    ("uprobe.multi", (1, 3), True),
    ("uprobe.multi.s", (1, 3), True),
    ("uretprobe.multi", (1, 3), True),
    ("uretprobe.multi.s", (1, 3), True),
    ("netkit/", (1, 3), True),
    (".struct_ops.link", (1, 2), True),
    (".addr_space.1", (1, 4), True),  # variables in an arena
    ("netfilter", (1, 3), False),
    ("sk_skb/verdict", (1, 5), False),
    ("kprobe.session", (1, 5), True),
    ("usdt.s", (1, 5), False),
    ("struct_ops.s", (1, 5), False),
    ("cgroup/connect_unix", (1, 5), False),
    ("cgroup/sendmsg_unix", (1, 5), False),
    ("cgroup/recvmsg_unix", (1, 5), False),
    ("cgroup/getpeername_unix", (1, 5), False),
    ("cgroup/getsockname_unix", (1, 5), False),
)


def too_new(sections: Iterable[str]) -> str:
    """Return why this libbpf cannot load an object with these sections; empty if it supports all of them."""
    ours = lib.libbpf_major_version(), lib.libbpf_minor_version()
    for section in sections:
        for name, since, exact in _SINCE:
            if ours < since and (_is(section, name) or _is(section.lstrip("?"), name)):
                version = f"{since[0]}.{since[1]}"
                later = f"libbpf {version} or later" if exact else f"a later libbpf, such as {version}"
                return (
                    f"section {section} needs {later}, this one is {ours[0]}.{ours[1]}: "
                    "install that version's headers and library, and build eunomia from source (pip install .)"
                )
    return ""


def _is(section: str, name: str) -> bool:
    return section.startswith(name) if name.endswith("/") else name in {section, section.partition("/")[0]}
