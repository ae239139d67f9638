# SPDX-License-Identifier: BSD-2-Clause
"""What numbers mean: errors, signals, system calls, addresses, times, texts.

Each meaning is the name that a field's typedef gives it in ``eunomia/types.h``. Work is done a column
at a time, and what a batch repeats (command names, errors, flags) is looked up, not made again.
"""

from __future__ import annotations

import errno
import os
import struct
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any

from eunomia import _native

if TYPE_CHECKING:
    from eunomia.batch import Field

_ORDER = "<" if sys.byteorder == "little" else ">"
_CACHE_LIMIT = 8192  # distinct values of one meaning that are remembered

# Meanings whose place in the record is (offset, length) into the heap.
VARIABLE = frozenset({"str", "path", "argv", "blob", "tail"})


class _Cache(dict[Any, Any]):
    """Remembers what a value looks like; forgets everything when too many were seen."""

    def __init__(self, make: Callable[[Any], Any]) -> None:
        super().__init__()
        self.make = make

    def __missing__(self, key: Any) -> Any:
        if len(self) >= _CACHE_LIMIT:
            self.clear()
        value = self[key] = self.make(key)
        return value


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
    r"""Return what UTF-8 can hold: bytes that are not UTF-8 as ``\xNN``, other lone surrogates as ``\udNNN``."""
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
    """The texts of a batch's heap; decoded at once where all of it is ASCII.

    ``columns`` says how many texts each row has, where the heap holds them all, in order, a NUL behind each.
    ``start`` is the offset, as places have it, of the heap's first byte; ``tidy`` says that no path needs to
    be tidied.
    """

    def __init__(self, heap: bytes, columns: int = 0, rows: int = 0, start: int = 0, tidy: bool = False) -> None:
        self.heap = heap
        self._start = start
        self._ascii = heap.decode("ascii") if heap.isascii() else None
        self._parts: list[str] | None = None
        self._columns = columns
        if columns and self._ascii is not None:
            parts = self._ascii.split("\0")
            if len(parts) == columns * rows + 1:  # else there are NULs in the texts
                del parts[-1]
                self._parts = parts
        self._tidy = tidy

    def column(self, index: int) -> list[str] | None:
        """Return the texts of each row's field ``index``; None where their places must be looked up."""
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


# In front of a path that is not below the task's root (text.h); ".." does not lead out of what follows either.
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


def times(data: bytes | bytearray, stride: int, offset: int, count: int, clock: int) -> list[str]:
    """Return the time at ``offset`` of each record as RFC 3339; ``clock`` is added to each, in ns."""
    out = bytearray(_WIDTH * count)
    _native.lib.eu_rfc3339(
        _native.ffi.from_buffer(data), stride, offset, count, clock, _native.ffi.from_buffer(out)
    )
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
        "O_SYNC", "O_TMPFILE",  # of several bits, so before the ones they contain
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
    """Return an error's name; empty for success. Negative values, as kernels return them, are meant too."""
    value = abs(value)
    if value == 0:
        return ""
    return errno.errorcode.get(value) or _KERNEL_ERRNO.get(value) or str(value)


# include/linux/errno.h: kernel-internal codes that tracing can see
_KERNEL_ERRNO = {
    512: "ERESTARTSYS", 513: "ERESTARTNOINTR", 514: "ERESTARTNOHAND", 515: "ENOIOCTLCMD",
    516: "ERESTART_RESTARTBLOCK", 517: "EPROBE_DEFER", 524: "ENOTSUPP",
}  # fmt: skip


def signal_name(value: int) -> str:
    """Return a signal's name, ``SIGRTMIN+n`` for real-time ones; empty for none."""
    import signal

    if value == 0:
        return ""
    try:
        return signal.Signals(value).name
    except ValueError:
        low, high = int(signal.SIGRTMIN), int(signal.SIGRTMAX)
        return f"SIGRTMIN+{value - low}" if low < value <= high else str(value)


_X32 = 1 << 30  # __X32_SYSCALL_BIT, arch/x86/include/uapi/asm/unistd.h
_COMPAT = 1 << 32  # SYSCALL_COMPAT, types.h


def syscall_name(value: int) -> str:
    """Return a system call's name on this machine's architecture; its number where unknown.

    Calls by the 32-bit ABI, which has numbers of its own, are ``ia32:NUMBER`` (``compat:NUMBER`` on arm64); those
    by the x32 ABI, whose numbers have bit 30 set, are ``x32:NAME``, and no kernel without CONFIG_X86_X32_ABI runs them.
    """
    from eunomia.tables import syscalls

    number = value & 0xFFFFFFFF
    plain = str(number - (1 << 32) if number >= 1 << 31 else number)  # any 32 bits can be asked for: syscall(-1)
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
    """Return the address whose four bytes stand in memory as this number does."""
    return ".".join(map(str, struct.pack("=I", value)))


def ip(raw: bytes) -> str:
    """Return an address of 16 bytes; IPv4 ones, mapped to ``::ffff:0:0/96``, dotted."""
    import socket

    if raw[:12] == b"\0" * 10 + b"\xff\xff":
        return socket.inet_ntop(socket.AF_INET, raw[12:])
    return socket.inet_ntop(socket.AF_INET6, raw)


def ip16(raw: bytes) -> str:
    """Return an address of 16 bytes that may hold IPv4 in its first four.

    No host has an address of IPv6 whose last 96 bits are zero.
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
    """Return what the environment calls this machine: EUNOMIA_NODE, or else NODE_NAME; empty where it does not."""
    return os.environ.get("EUNOMIA_NODE") or os.environ.get("NODE_NAME") or ""


def node() -> str:
    """Return what this machine is called: EUNOMIA_NODE, NODE_NAME (as in Kubernetes), or else the host's name."""
    if not _node:
        given = node_given() or os.uname().nodename
        _node.append(decode(os.fsencode(given)))
    return _node[0]


def exec_id(start: int, pid: int) -> str:
    """Return the text that names a process for good; empty for none. ``start`` is monotonic nanoseconds."""
    return f"{node()}:{start}:{pid}" if pid else ""


_EXEC_ID = struct.Struct(_ORDER + "QI4x")


def port(value: int) -> int:
    """Return a port number from network byte order."""
    return int.from_bytes(struct.pack("=H", value), "big")


def texts(raw: bytes, count: int | None = None) -> list[str]:
    """Return texts with a NUL between them: ``count`` of them, or all up to the zeros at the end."""
    parts = raw.rstrip(b"\0").split(b"\0") if count is None else raw.split(b"\0")[: max(0, count)]
    return [] if parts == [b""] and count is None else [decode(part) for part in parts]


def device(value: int) -> str:
    """Return ``major:minor`` of a kernel ``dev_t`` (20 bits of minor, include/linux/kdev_t.h)."""
    return f"{value >> 20}:{value & 0xFFFFF}"


# What each meaning is, in the words of `eunomia info`, and how one value of it looks.
# None: shown as the number it is.
MEANINGS: dict[str, tuple[str, Callable[[Any], Any] | None]] = {
    "": ("number", None),
    "wide": ("number of 128 bits", None),
    "bool": ("true or false", bool),
    "float": ("number", None),
    "duration": ("nanoseconds", None),
    "uid": ("user id", None),
    "gid": ("group id", None),
    "pid": ("process id", None),
    "cgroup_id": ("cgroup id", None),
    "text": ("text", char_array),
    "bytes": ("bytes in hex", bytes.hex),
    "pointer": ("address in hex", hex),
    "hex": ("number in hex", hex),
    "errno": ("error name, empty on success", errno_name),
    "signal": ("signal name, empty for none", signal_name),
    "syscall": ("system call name", syscall_name),
    "capability": ("capability name", capability_name),
    "open_flags": ("open(2) flags, joined by |", open_flags),
    "mode": ("mode in octal", lambda v: f"{v:04o}"),
    "device": ("major:minor", device),
    "ipv4": ("IPv4 address", ipv4),
    "ipv6": ("IPv6 address", ipv6),
    "ip": ("IP address", ip),
    "ip16": ("IP address", ip16),
    "mac": ("hardware address", mac),
    "be": ("number, from network byte order", lambda raw: int.from_bytes(raw, "big")),
    "texts": ("list of texts", texts),
    "tail": ("what follows the struct", None),
    "absent": ("nothing", lambda _: None),
    "port": ("port number", port),
    "exec_id": ("process as NODE:START:PID, empty for none", lambda raw: exec_id(*_EXEC_ID.unpack(raw))),
    "kstack": ("kernel stack, innermost function first, joined by ;", None),
    "ustack": ("user stack, innermost address first, joined by ;", None),
    "stack": ("stack, innermost frame first, joined by ;", None),
    # rendered by render() itself
    "time": ("time, RFC 3339 with nanoseconds", None),
    "enum": ("name", None),
    "str": ("text", None),
    "path": ("path", None),
    "argv": ("list of texts", None),
    "blob": ("bytes in hex", None),
    "array": ("list", None),
    "struct": ("object", None),
    "union": ("bytes in hex", bytes.hex),
}

_caches = {
    name: _Cache(make)
    for name, (_, make) in MEANINGS.items()
    if make is not None and name not in {"bytes", "union", "pointer", "hex", "bool"}
}


def render(field: Field, raw: Sequence[Any], text: Text) -> Sequence[Any]:
    """Return a column as people read it. ``raw`` is what :meth:`eunomia.batch.Batch.raw` gave."""
    kind = field.meaning
    if field.show is not None:
        return list(map(field.show, raw))
    if kind in VARIABLE:
        if kind == "path":
            return text.tidy(text.strings(raw))
        if kind == "argv":
            return text.vectors(raw)
        return text.blobs(raw) if kind == "blob" else text.strings(raw)
    if kind in _caches:
        known = _caches[kind]
        if field.code[-1] != "s" and raw and raw.count(raw[0]) == len(raw):  # as errors and flags often are
            return [known[raw[0]]] * len(raw)
        return list(map(known.__getitem__, raw))
    if kind == "wide":
        return [_wide(int.from_bytes(v, sys.byteorder, signed=field.signed)) for v in raw]
    if kind == "enum":
        names = field.names or {}
        return [names.get(v, v) for v in raw]
    if kind == "array":
        return _array(field, raw)
    if kind == "struct":
        return [_struct(field.parts, v) for v in raw]
    make = MEANINGS[kind][1]
    if make is None:
        return raw
    look: Callable[[Any], Any] = make
    return list(map(look, raw))


def _wide(value: int) -> int | str:
    """Return a number, as text where it has more than 64 bits, which JSON's readers do not take."""
    return value if -(1 << 63) <= value < 1 << 64 else str(value)


def is_number(field: Field) -> bool:
    """Return whether a field is shown as the number that it is in C."""
    plain = MEANINGS[field.meaning][1] is None and field.meaning not in {"enum", "kstack", "ustack", "stack"}
    return plain and len(field.code) == 1


def _array(field: Field, raw: Sequence[Any]) -> list[Any]:
    """Return lists; an array of plain numbers is a tuple already, any other is bytes to be cut."""
    if not field.parts:
        return list(map(list, raw)) if field.code.lstrip("0123456789") != "s" else [v.hex() for v in raw]
    part = field.parts[0]
    if part.size == 0:
        return [[] for _ in raw]
    return [[_one(part, v[i : i + part.size]) for i in range(0, len(v), part.size)] for v in raw]


def _one(part: Field, raw: bytes) -> Any:
    """Return one value out of ``part.size`` bytes."""
    values = struct.unpack(_ORDER + part.code, raw)
    value: Any = values if len(values) > 1 or (part.meaning == "array" and not part.parts) else values[0]
    if part.bits is not None:
        shift, width = part.bits
        value = (int.from_bytes(raw, sys.byteorder) >> shift) & ((1 << width) - 1)
        if part.signed and value >> (width - 1):
            value -= 1 << width
    return render(part, [value], Text(b""))[0]


def _struct(parts: Sequence[Field], raw: bytes) -> dict[str, Any]:
    return {p.name: _one(p, raw[p.offset : p.offset + p.size]) for p in parts}


def in_use(field: Field, raw: bytes, length: int | None, count: int | None) -> Any:
    """Return what an array holds: its first ``length`` bytes, or ``count`` texts, as far as these are there.

    A length that is none (more than there is room for) leaves a text to its first NUL, and others whole.
    """
    kind = field.meaning if field.meaning != "tail" else field.parts[0].meaning
    told = length is not None and length <= len(raw)
    if kind in {"text", "texts", "bytes"} and told and length is not None:
        raw = raw[: max(0, length)]
    if kind == "bytes":
        return raw.hex()
    if kind == "text":
        return decode(raw.rstrip(b"\0")) if told or field.meaning == "tail" else char_array(raw)
    if kind == "texts":
        if count is None and not told and field.meaning != "tail":
            raw = raw.partition(b"\0")[0]
        return texts(raw, count)
    part = field.parts[0]
    there = len(raw) // part.size
    # a length of elements is counted in them, or in bytes
    if length is not None and length * part.size > len(raw):
        length //= part.size
    if length is not None:
        there = max(0, min(there, length))
    return [_one(part, raw[i * part.size : (i + 1) * part.size]) for i in range(there)]


def tagged(field: Field, raw: Sequence[bytes], tags: Sequence[int]) -> list[Any]:
    """Return a union's values by the member that each row's tag selects; bytes in hex where none does."""
    members = {int(p.tag, 0): p for p in field.parts if p.tag}
    return [
        _one(members[tag], value[: members[tag].size]) if tag in members else value.hex()
        for value, tag in zip(raw, tags, strict=True)
    ]
