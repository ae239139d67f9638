# SPDX-License-Identifier: BSD-2-Clause
"""Users' names in containers: from ``/etc/passwd`` in a process's own root directory.

A file is read when a process first appears in a root directory, while a process gives access to it, and checked again,
not too often, as more of them appear. A container's first program may end before the file is read; but the runtime's
process, which becomes it, enters the container's root some time before, and is watched for that. The file's content is
untrusted.
"""

from __future__ import annotations

import os
import sys
from contextlib import suppress

from eunomia.faults import Faults
from eunomia.meaning import decode
from eunomia.process_identity import Process, ProcessRoot
from eunomia.resolve_in_root import open_file, read

FILE_LIMIT = 1 << 20  # bytes of a passwd file; a longer one is ignored
NAME_LIMIT = 256  # bytes of a name
ENTRIES = 4096  # first users of a file that are kept
ALL_ENTRIES = 65536  # of all files, before all are forgotten
CHECK_PAUSE = 1_000_000_000  # ns between two checks of one file
WATCHED = 256  # processes at a time that may be about to enter a container's root
WATCH = 5_000_000_000  # ns that each is watched
_HOST_USER_NS = 0xEFFFFFFD  # PROC_USER_INIT_INO, include/linux/proc_ns.h
_MAP_LIMIT = 65536  # bytes; the kernel allows 340 lines
_MAPS = 4096  # user namespaces that are remembered

_READER = "the reader of users' names"

Span = tuple[int, int, int]  # the first id inside, the first outside, how many


class _File:
    """A passwd file: its names, and its inode, size and time when they were read."""

    __slots__ = ("checked", "looks", "names")

    def __init__(self, checked: int, looks: tuple[int, ...], names: dict[int, str]) -> None:
        self.checked = checked
        self.looks = looks
        self.names = names


class Users:
    """The names of users in each root directory."""

    def __init__(self, faults: Faults | None = None) -> None:
        """Start empty; ``faults`` counts unexpected errors, which mean that a name is unknown."""
        self._faults = Faults() if faults is None else faults
        self._files: dict[tuple[int, int], _File] = {}  # by mount namespace and root; root 0: not seen yet
        self._watched: dict[int, tuple[int, int]] = {}  # by mount namespace: the process, and until when
        self._namespaces: dict[int, None] = {}  # mount namespaces that were seen lately
        self._maps: dict[int, tuple[Span, ...]] = {}
        self._entries = 0

    def name(self, process: Process) -> str:
        """Return the name of a process's user in its root; empty if unknown."""
        return self._faults.call(_READER, "", self._name, process)

    def learn(self, process: Process) -> None:
        """Read the passwd file and user namespace of a process, if they are new or were not checked lately."""
        self._faults.call(_READER, None, self._learn, process)

    def look(self, now: int) -> None:
        """Read the files of watched processes that have entered a root."""
        if self._watched:
            self._faults.call(_READER, None, self._look, now)

    def _name(self, process: Process) -> str:
        self._learn(process)
        location = process.location
        file = self._files.get((location.mnt_ns, location.root)) or self._files.get((location.mnt_ns, 0))
        if file is None:
            return ""
        uid = inside(process.uid, self._maps.get(location.user_ns))
        return file.names.get(uid, "") if uid is not None else ""

    def _learn(self, process: Process) -> None:
        location = process.location
        if location.user_ns not in self._maps:
            self._read_map(process.pid, location.user_ns)
        file = self._files.get((location.mnt_ns, location.root))
        if location.root and not process.ended and (file is None or file.checked + CHECK_PAUSE < process.since):
            self._read_file(process.pid, location, file, process.since)
        if location.mnt_ns not in self._namespaces:
            if len(self._namespaces) >= _MAPS:
                self._namespaces.clear()
            self._namespaces[location.mnt_ns] = None
            if location.mnt_ns and len(self._watched) < WATCHED:
                self._watched[location.mnt_ns] = process.pid, process.since + WATCH

    def _look(self, now: int) -> None:
        for mnt_ns, (pid, until) in list(self._watched.items()):
            try:
                if os.path.samestat(os.stat(f"/proc/{pid}/root/"), os.stat("/")) and now < until:
                    continue
            except OSError:  # it has ended
                del self._watched[mnt_ns]
                continue
            del self._watched[mnt_ns]
            with suppress(OSError):  # it has ended meanwhile
                self._read_file(pid, ProcessRoot(0, mnt_ns, 0), None, now)

    def _read_file(self, pid: int, location: ProcessRoot, known: _File | None, now: int) -> None:
        base = f"/proc/{pid}/root"
        try:
            descriptor = open_file(base, "etc/passwd")
        except OSError:
            if self._is_in(pid, "mnt", location.mnt_ns) and os.path.exists(f"{base}/"):
                self._keep(location, _File(now, (), {}))  # there is none, or it cannot be read
            return
        about = os.fstat(descriptor)
        looks = (about.st_dev, about.st_ino, about.st_size, about.st_mtime_ns)
        if known is not None and known.looks == looks:
            os.close(descriptor)
            known.checked = now
            return
        try:
            names = parse(read(descriptor, FILE_LIMIT)[0])
        except OSError:
            names = {}
        if self._is_in(pid, "mnt", location.mnt_ns):  # else the pid was reused
            self._keep(location, _File(now, looks, names))

    def _keep(self, location: ProcessRoot, file: _File) -> None:
        before = self._files.pop((location.mnt_ns, location.root), None)
        self._entries += len(file.names) - (len(before.names) if before else -1)
        if self._entries > ALL_ENTRIES:
            self._files.clear()
            self._entries = len(file.names) + 1
        self._files[location.mnt_ns, location.root] = file

    def _read_map(self, pid: int, user_ns: int) -> None:
        if user_ns == _HOST_USER_NS:
            self._maps[user_ns] = ((0, 0, 1 << 32),)
            return
        try:
            with open(f"/proc/{pid}/uid_map", "rb") as file:
                spans = spans_of(file.read(_MAP_LIMIT))
        except OSError:
            return
        if spans and self._is_in(pid, "user", user_ns):  # empty until it is written, once
            if len(self._maps) >= _MAPS:
                self._maps.clear()
            self._maps[user_ns] = spans

    @staticmethod
    def _is_in(pid: int, kind: str, number: int) -> bool:
        try:
            return os.readlink(f"/proc/{pid}/ns/{kind}") == f"{kind}:[{number}]"
        except OSError:
            return False


def parse(data: bytes) -> dict[int, str]:
    """Return the names in a passwd file by user id; invalid lines are skipped, the first of an id counts."""
    names: dict[int, str] = {}
    for line in data.split(b"\n"):
        fields = line.split(b":", 3)
        if len(fields) < 3 or not fields[0] or len(fields[0]) > NAME_LIMIT:
            continue
        digits = fields[2]
        if len(digits) <= 10 and digits.isdigit() and int(digits) < 1 << 32:
            names.setdefault(int(digits), sys.intern(decode(fields[0])))
            if len(names) == ENTRIES:
                break
    return names


def spans_of(data: bytes) -> tuple[Span, ...]:
    """Return the lines of ``/proc/PID/uid_map``."""
    found = []
    for line in data.splitlines():
        words = line.split()
        if len(words) == 3 and all(word.isdigit() and len(word) <= 10 for word in words):
            first, outside, count = map(int, words)
            found.append((first, outside, count))
    return tuple(found)


def inside(uid: int, spans: tuple[Span, ...] | None) -> int | None:
    """Return a host's user id as seen in a user namespace; None if it is not mapped."""
    for first, outside, count in spans or ():
        if outside <= uid < outside + count:
            return first + uid - outside
    return None
