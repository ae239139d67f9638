# SPDX-License-Identifier: BSD-2-Clause
"""Formats numbers and bytes as text: errors, signals, system calls, addresses, times, texts.

:mod:`eunomia.columns.meanings` has the function for each meaning.
"""

from __future__ import annotations

import errno
import os
import struct
import sys
import time
from collections.abc import Iterable

from eunomia import _native
from eunomia.typing import Any

_ORDER = "<" if sys.byteorder == "little" else ">"


def decode(raw: bytes) -> str:
    r"""Return text; bytes that are not UTF-8 become U+DC80 to U+DCFF, which sinks show as ``\xNN``."""
    return raw.decode("utf-8", "surrogateescape")


def encode(text: str) -> bytes:
    """Return the bytes that :func:`decode` makes this text of; other lone surrogates as ``\\udNNN``."""
    try:
        return text.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        return text.encode("utf-8", "backslashreplace")


def valid(value: Any) -> Any:
    r"""Return valid text for UTF-8: bytes that are not UTF-8 as ``\xNN``, other lone surrogates as ``\udNNN``."""
    if isinstance(value, list):
        return [valid(one) for one in value]
    if isinstance(value, dict):
        return {valid(key): valid(one) for key, one in value.items()}
    if not isinstance(value, str):
        return value
    try:
        value.encode("utf-8")
    except UnicodeEncodeError:
        return encode(value).decode("utf-8", "backslashreplace")
    return value


def char_array(raw: bytes) -> str:
    """Return a C string's text, up to its first NUL."""
    return decode(raw.partition(b"\0")[0])


class Text:
    """The texts of a batch's heap, decoded together if all of it is ASCII.

    ``columns`` is the number of texts in each row, if the heap has all of them, in order, with a NUL after each.
    ``start`` is the offset of the heap's first byte, as used in places; ``tidy`` says that all paths are
    normalized already.
    """

    def __init__(self, heap: bytes, columns: int = 0, rows: int = 0, start: int = 0, tidy: bool = False) -> None:
        self.heap = heap
        self._start = start
        self._ascii = heap.decode("ascii") if heap.isascii() else None
        self._parts: list[str] | None = None
        self._columns = columns
        if columns and self._ascii is not None:
            parts = self._ascii.split("\0")
            if len(parts) == columns * rows + 1:  # otherwise there are NULs in the texts
                del parts[-1]
                self._parts = parts
        self._tidy = tidy

    def column(self, index: int) -> list[str] | None:
        """Return the texts of each row's field ``index``; None if their places must be looked up."""
        return None if self._parts is None else self._parts[index :: self._columns]

    def strings(self, places: Iterable[tuple[int, int]]) -> list[str]:
        """Return the text at each (offset, length)."""
        text, start = self._ascii, self._start
        if start:
            places = [(at - start, size) for at, size in places]
        if text is not None:
            return [text[at : at + size] for at, size in places]
        heap = self.heap
        return [decode(heap[at : at + size]) for at, size in places]

    def tidy(self, paths: list[str]) -> list[str]:
        """Return paths without ``.``, ``..`` and doubled slashes."""
        if self._tidy:
            return paths
        return [_tidy(p) if "/." in p or "//" in p else p for p in paths]

    def blobs(self, places: Iterable[tuple[int, int]]) -> list[str]:
        """Return bytes in hex."""
        return [self.heap[at : at + size].hex() for at, size in places]

    def vectors(self, places: Iterable[tuple[int, int]]) -> list[list[str]]:
        """Return NUL-terminated strings as lists, as in ``/proc/PID/cmdline``."""
        return [t.removesuffix("\0").split("\0") if t else [] for t in self.strings(places)]


# Before a path that is not below the task's root (text.h); ".." does not lead out of the rest either.
UNREACHABLE = "(unreachable)"


def _tidy(path: str) -> str:
    outside = UNREACHABLE if path.startswith(f"{UNREACHABLE}/") else ""
    rest = path.removeprefix(outside)
    return outside + os.path.normpath(rest).replace("//", "/") if rest.startswith("/") else path


# Times


def rfc3339(nanoseconds: int) -> str:
    """Return nanoseconds since the epoch as RFC 3339 in UTC."""
    seconds, rest = divmod(nanoseconds, 10**9)
    return f"{time.strftime('%Y-%m-%dT%H:%M:%S', time.gmtime(seconds))}.{rest:09d}Z"


_WIDTH = len("2026-11-23T20:05:29.123456789Z\n")


def times(data: bytes | bytearray | memoryview, stride: int, offset: int, count: int, clock: int) -> list[str]:
    """Return the time at ``offset`` of each record as RFC 3339; ``clock`` is added to each, in ns."""
    out = bytearray(_WIDTH * count)
    _native.lib.eu_rfc3339(_native.ffi.from_buffer(data), stride, offset, count, clock, _native.ffi.from_buffer(out))
    return out.decode("ascii").splitlines()


# Numbers with names

_CAPABILITIES = (
    "CHOWN DAC_OVERRIDE DAC_READ_SEARCH FOWNER FSETID KILL SETGID SETUID SETPCAP LINUX_IMMUTABLE "
    "NET_BIND_SERVICE NET_BROADCAST NET_ADMIN NET_RAW IPC_LOCK IPC_OWNER SYS_MODULE SYS_RAWIO SYS_CHROOT "
    "SYS_PTRACE SYS_PACCT SYS_ADMIN SYS_BOOT SYS_NICE SYS_RESOURCE SYS_TIME SYS_TTY_CONFIG MKNOD LEASE "
    "AUDIT_WRITE AUDIT_CONTROL SETFCAP MAC_OVERRIDE MAC_ADMIN SYSLOG WAKE_ALARM BLOCK_SUSPEND AUDIT_READ "
    "PERFMON BPF CHECKPOINT_RESTORE"
).split()  # include/uapi/linux/capability.h, in the order of their numbers

_ACCESS = ("O_RDONLY", "O_WRONLY", "O_RDWR", "O_ACCMODE")
_OPEN_FLAGS = [
    (getattr(os, name), name)
    for name in (
        "O_SYNC", "O_TMPFILE",  # of several bits, so before those that they contain
        "O_APPEND", "O_ASYNC", "O_CLOEXEC", "O_CREAT", "O_DIRECT", "O_DIRECTORY", "O_DSYNC", "O_EXCL",
        "O_NOATIME", "O_NOCTTY", "O_NOFOLLOW", "O_NONBLOCK", "O_PATH", "O_TRUNC",
    )
    if hasattr(os, name)
] + [(0o100000 if os.uname().machine in {"x86_64", "i686"} else 0o400000, "O_LARGEFILE")]  # fmt: skip


def open_flags(value: int) -> str:
    """Return open(2) flags by name, joined by ``|``; bits without a name in hex."""
    names, rest = [_ACCESS[value & 3]], value & ~3
    for bits, name in _OPEN_FLAGS:
        if bits and rest & bits == bits:
            names.append(name)
            rest &= ~bits
    if rest:
        names.append(hex(rest))
    return "|".join(names)


def errno_name(value: int) -> str:
    """Return an error's name; empty for success. Negative values, as returned by the kernel, work too."""
    value = abs(value)
    if value == 0:
        return ""
    return errno.errorcode.get(value) or _KERNEL_ERRNO.get(value) or str(value)


# include/linux/errno.h: kernel-internal codes that tracing can see
_KERNEL_ERRNO = {
    512: "ERESTARTSYS", 513: "ERESTARTNOINTR", 514: "ERESTARTNOHAND", 515: "ENOIOCTLCMD",
    516: "ERESTART_RESTARTBLOCK", 517: "EPROBE_DEFER", 524: "ENOTSUPP",
}  # fmt: skip


def _signal_names() -> dict[int, str]:
    import _signal  # type: ignore[import-not-found]  # the part of signal in C, without enum

    names = {value: name for name, value in vars(_signal).items() if name.startswith("SIG") and "_" not in name}
    low, high = _signal.SIGRTMIN, _signal.SIGRTMAX
    aliases = {"SIGCHLD", "SIGABRT", "SIGIO"}  # which go by another name, too
    names |= {vars(_signal)[name]: name for name in aliases}
    return names | {value: f"SIGRTMIN+{value - low}" for value in range(low + 1, high + 1) if value not in names}


_signals: dict[int, str] = {}


def signal_name(value: int) -> str:
    """Return a signal's name, ``SIGRTMIN+n`` for real-time ones; empty for none."""
    if not _signals:
        _signals.update(_signal_names())
    return _signals.get(value, str(value)) if value else ""


_X32 = 1 << 30  # __X32_SYSCALL_BIT, arch/x86/include/uapi/asm/unistd.h
_COMPAT = 1 << 32  # SYSCALL_COMPAT, types.h


def syscall_name(value: int) -> str:
    """Return a system call's name on this machine's architecture; its number where unknown.

    Calls by the 32-bit ABI, which has its own numbers, are ``ia32:NUMBER`` (``compat:NUMBER`` on arm64); those
    by the x32 ABI, whose numbers have bit 30 set, are ``x32:NAME``, and no kernel without CONFIG_X86_X32_ABI runs them.
    """
    from eunomia.tables import syscalls

    number = value & 0xFFFFFFFF
    plain = str(number - (1 << 32) if number >= 1 << 31 else number)  # programs can pass any 32 bits: syscall(-1)
    intel = os.uname().machine == "x86_64"
    if value & _COMPAT:
        return f"{'ia32' if intel else 'compat'}:{plain}"
    if intel and _X32 <= number < 1 << 31:
        return f"x32:{syscalls.X32.get(number - _X32) or number - _X32}"
    return syscalls.NAMES.get(number) or plain


def capability_name(value: int) -> str:
    """Return a capability's name, as in ``CAP_SYS_ADMIN``."""
    return f"CAP_{_CAPABILITIES[value]}" if 0 <= value < len(_CAPABILITIES) else str(value)


def ipv4(value: int) -> str:
    """Return the address with the bytes of this number in memory."""
    return ".".join(map(str, struct.pack("=I", value)))


def ip(raw: bytes) -> str:
    """Return an address of 16 bytes; IPv4 ones, mapped to ``::ffff:0:0/96``, dotted."""
    import socket

    if raw[:12] == b"\0" * 10 + b"\xff\xff":
        return socket.inet_ntop(socket.AF_INET, raw[12:])
    return socket.inet_ntop(socket.AF_INET6, raw)


def ip16(raw: bytes) -> str:
    """Return an address of 16 bytes that may have an IPv4 address in its first four.

    No host has an IPv6 address of which the last 96 bits are zero.
    """
    return ipv4(struct.unpack("=I", raw[:4])[0]) if any(raw[:4]) and not any(raw[4:]) else ip(raw)


def mac(raw: bytes) -> str:
    """Return a hardware address, as in ``02:42:ac:11:00:02``."""
    return raw.hex(":")


def ipv6(raw: bytes) -> str:
    """Return an IPv6 address."""
    import socket

    return socket.inet_ntop(socket.AF_INET6, raw)


_node: list[str] = []


def node_given() -> str:
    """Return this machine's name from the environment: EUNOMIA_NODE, or else NODE_NAME; empty if unset."""
    return os.environ.get("EUNOMIA_NODE") or os.environ.get("NODE_NAME") or ""


def node() -> str:
    """Return this machine's name: EUNOMIA_NODE, NODE_NAME (as in Kubernetes), or else the host's name."""
    if not _node:
        given = node_given() or os.uname().nodename
        _node.append(decode(os.fsencode(given)))
    return _node[0]


def exec_id(start: int, pid: int) -> str:
    """Return the unique name of a process; empty for none. ``start`` is monotonic nanoseconds."""
    return f"{node()}:{start}:{pid}" if pid else ""


_EXEC_ID = struct.Struct(_ORDER + "QI4x")


def packed_exec_id(raw: bytes) -> str:
    """Return the unique name in an ``exec_id_t``."""
    return exec_id(*_EXEC_ID.unpack(raw))


def port(value: int) -> int:
    """Return a port number from network byte order."""
    return int.from_bytes(struct.pack("=H", value), "big")


def texts(raw: bytes, count: int | None = None) -> list[str]:
    """Return texts that are separated by NULs: ``count`` of them, or all up to the zeros at the end."""
    parts = raw.rstrip(b"\0").split(b"\0") if count is None else raw.split(b"\0")[: max(0, count)]
    return [] if parts == [b""] and count is None else [decode(part) for part in parts]


def device(value: int) -> str:
    """Return ``major:minor`` of a kernel ``dev_t`` (20 bits of minor, include/linux/kdev_t.h)."""
    return f"{value >> 20}:{value & 0xFFFFF}"


def octal(value: int) -> str:
    """Return a file's mode as ``chmod(1)`` takes it."""
    return f"{value:04o}"


def big_endian(raw: bytes) -> int:
    """Return a number from network byte order."""
    return int.from_bytes(raw, "big")


def nothing(_value: object) -> None:
    """Return None, for members that are declared empty."""


def duration(nanoseconds: int) -> str:
    """Return a time span in three or four digits and the unit that fits."""
    if nanoseconds < 1000:
        return f"{nanoseconds}ns"
    value = float(nanoseconds)
    for unit in ("ns", "us", "ms"):
        if value < 999.5:
            return f"{value:.3g}{unit}"
        value /= 1000
    if value < 99.5:
        return f"{value:.3g}s"
    minutes, seconds = divmod(int(value), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}h{minutes:02d}m" if hours else f"{minutes}m{seconds:02d}s"
