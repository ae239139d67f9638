# SPDX-License-Identifier: BSD-2-Clause
"""Runtime daemons: which run now, how their files are reached, which cgroups they are trusted for.

Any user can start a process called dockerd. One with full rights over the machine is trusted for all cgroups, one in a
container for those nested in it, an ordinary user's for that user's slice.
"""

from __future__ import annotations

import os
from _thread import allocate_lock
from collections.abc import Iterator, Sequence

from eunomia.containers import blocking, early
from eunomia.containers.cgroup_files import path_of
from eunomia.containers.paths import is_below, is_id
from eunomia.kernel_clock import monotonic_ns
from eunomia.resolve_in_root import open_file, open_own, read
from eunomia.typing import NamedTuple

CONFIG_LIMIT = 4 << 20  # bytes of a daemon's file; real ones have a few thousand
SEARCH_PAUSE = 200_000_000  # ns between two searches for new daemons

# In nanoseconds: for so long one scan serves all runtimes that miss the same container; new processes, which may change
# their names, are read again; and after so long all are, because pids are used again.
_SHARED = 5_000_000
_SHARE = 4  # scans take at most one part in this of the time: there may be thousands of processes
_YOUNG = 1_000_000_000
_RECHECK = 10_000_000_000

_CAP_SYS_ADMIN = 1 << 21
_INITIAL_USER_NAMESPACE = "user:[4026531837]"  # PROC_USER_INIT_INO, include/linux/proc_ns.h


class DataRoot(NamedTuple):
    """A directory in which a daemon stores its containers.

    ``base`` is the daemon's root directory in our mount namespace, ``path`` the directory as the daemon sees it. The
    daemon is trusted for cgroups below ``below``. ``pid`` and ``birth`` identify the process that ``base`` belongs to;
    0 if ``base`` outlives it.
    """

    base: str
    path: str
    below: str = "/"
    pid: int = 0
    birth: bytes = b""

    def open(self, path: str) -> int:
        """Open one of the daemon's files; raises :class:`OSError`, and :class:`ValueError` for a NUL in the path."""
        blocking.check(self.base, path)
        if self.is_ours:
            return open_own(path)
        return open_file(self.base, path)

    def read(self, path: str, limit: int = CONFIG_LIMIT) -> tuple[bytes, int]:
        """Return a file's content and when it was written; raises like :meth:`open`.

        A file that is gone may have been read when its container's cgroup was made.
        """
        try:
            descriptor = self.open(path)
        except (FileNotFoundError, NotADirectoryError):
            found = early.kept(path) if self.is_ours else None
            if found is None or len(found[0]) > limit:
                raise
            return found
        return read(descriptor, limit)

    @property
    def is_ours(self) -> bool:
        """Whether it is trusted for the whole machine, with files below our own root."""
        return (self.base, self.below) == ("/", "/")

    def shown(self, path: str) -> str:
        """Return a daemon's path in our mount namespace; raises :class:`WouldBlock`, see :mod:`.blocking`."""
        blocking.check(self.base, path)
        return path if self.base == "/" else self.base + path

    def covers(self, path: str) -> bool:
        """Whether it is trusted for the cgroup ``path``, and its process still runs.

        An empty path means a container without a cgroup: only those that are trusted for the whole machine count.
        """
        if not (is_below(path, self.below) if path else self.below == "/"):
            return False
        return not self.pid or birth(self.pid) == self.birth


class Daemon(NamedTuple):
    """A running process; ``base``, ``below``, ``pid`` and ``birth`` are as in :class:`DataRoot`.

    ``view`` is equal for processes that see the same files.
    """

    base: str
    below: str = "/"
    pid: int = 0
    birth: bytes = b""
    cwd: str = "/"
    arguments: Sequence[str] = ()
    view: str = ""

    def data_root(self, path: str) -> DataRoot:
        """Return the data root for a directory as the daemon names it, perhaps relative to its working directory."""
        path = os.path.join(self.cwd, path)
        if self.base == "/":
            return DataRoot(self.base, path, self.below)
        return DataRoot(self.base, path, self.below, self.pid, self.birth)

    def read(self, path: str) -> bytes:
        """Return the content of a file that its arguments name; raises :class:`OSError` and :class:`ValueError`."""
        path = os.path.join(self.cwd, path)
        blocking.check(self.base, path)
        return read(open_file(self.base, path), CONFIG_LIMIT)[0]


def running(comm: bytes) -> Iterator[Daemon]:
    """Yield the processes called ``comm`` (the first 15 bytes of a name) that are trusted for any cgroup."""
    for pid in pids(comm):
        daemon = daemon_of(pid)
        if daemon is not None:
            yield daemon


def daemon_of(pid: str) -> Daemon | None:
    """Return a process as a daemon; ``None`` if it has ended, or is not trusted for any cgroup."""
    try:
        with open(f"/proc/{pid}/cmdline", "rb") as file:
            arguments = [os.fsdecode(a) for a in file.read(1 << 16).split(b"\0")]
        born = birth(int(pid))
        mounts, root = os.readlink(f"/proc/{pid}/ns/mnt"), os.readlink(f"/proc/{pid}/root")
        shared = mounts == os.readlink("/proc/self/ns/mnt") and root == "/"
        base = "/" if shared else f"/proc/{pid}/root"
        cwd = os.readlink(f"/proc/{pid}/cwd")
        below = _below(pid)
    except OSError:
        return None
    return None if below is None else Daemon(base, below, int(pid), born, cwd, arguments, mounts + root)


# Names of all daemons, so that one scan of /proc finds them all.
_NAMES = (b"dockerd", b"containerd", b"containerd-shim", b"conmon")


class _Scan:
    """Scan of /proc for processes by name; known processes are not read again."""

    def __init__(self) -> None:
        self.wanted = set(_NAMES)
        self.found: dict[bytes, list[str]] = {}
        self._at = self._rechecked = -_RECHECK
        self._took = 0
        self._young: dict[str, int] = {}  # when it was first seen
        self._named: dict[str, bytes] = {}
        self._others: set[int] = set()  # numbers need less memory than texts
        self._lock = allocate_lock()  # called by several threads

    def pids(self, comm: bytes) -> list[str]:
        with self._lock:
            self._want(comm)
            self._scan()
            return self.found.get(comm, [])

    def _scan(self) -> None:
        now = monotonic_ns()
        if now - self._at < max(_SHARED, (_SHARE - 1) * self._took):
            return
        if now - self._rechecked >= _RECHECK:
            self._rechecked = now
            self._named, self._others = {}, set()
        try:
            names = os.listdir("/proc")
        except OSError:
            names = []
        young, named, others = self._young, self._named, self._others
        self._young, self._named, self._others, self.found = {}, {}, set(), {}
        for pid in filter(str.isdigit, names):
            if int(pid) in others:
                self._others.add(int(pid))
                continue
            comm = named.get(pid) or _comm(pid)
            since = young.get(pid, now)
            is_old = pid in named or now - since >= _YOUNG
            if not is_old:
                self._young[pid] = since
            if comm in self.wanted:
                self.found.setdefault(comm, []).append(pid)
                if is_old:
                    self._named[pid] = comm
            elif is_old:
                self._others.add(int(pid))
        self._at = monotonic_ns()
        self._took = self._at - now

    def _want(self, comm: bytes) -> None:
        if comm not in self.wanted:
            self.wanted.add(comm)
            self._at = self._rechecked = -_RECHECK


_scan = _Scan()


def _comm(pid: str) -> bytes:
    try:
        with open(f"/proc/{pid}/comm", "rb", buffering=0) as file:
            return file.read(32).rstrip(b"\n")
    except OSError:
        return b""


def pids(comm: bytes) -> list[str]:
    """Return the ids of the processes with this name."""
    return _scan.pids(comm)


def host_bases() -> list[str]:
    """Return our own root, and the host's if we run in a container that sees the host's processes."""
    try:
        if os.readlink("/proc/1/ns/mnt") != os.readlink("/proc/self/ns/mnt"):
            return ["/", "/proc/1/root"]
    except OSError:
        pass
    return ["/"]


def option(arguments: Sequence[str], *names: str) -> str:
    """Return the last value of an option by any of its names; empty if it was not given."""
    value = ""
    for i, argument in enumerate(arguments):
        for name in names:
            if argument == name and i + 1 < len(arguments):
                value = arguments[i + 1]
            elif argument.startswith(name + "="):
                value = argument[len(name) + 1 :]
    return value


def trusted_first(roots: Iterator[DataRoot]) -> list[DataRoot]:
    """Return each once: first those trusted for the whole machine, then those that outlive their daemon."""
    return sorted(dict.fromkeys(roots), key=lambda r: (r.below != "/", r.base != "/", r.pid))


def birth(pid: int) -> bytes:
    """Return a process's start time as /proc shows it; empty if it has ended."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            return file.read().rpartition(b")")[2].split()[19]
    except (OSError, IndexError):
        return b""


def _below(pid: str) -> str | None:
    """Return the cgroup below which a daemon is trusted; ``None`` for none."""
    if _has_full_rights(pid):
        return "/"
    path, uid = path_of(pid) or "/", os.stat(f"/proc/{pid}").st_uid
    if inside := _container_around(path):
        return inside
    if uid == 0 and os.readlink(f"/proc/{pid}/ns/mnt") == os.readlink("/proc/self/ns/mnt"):
        return "/"
    head, found, _ = path.partition(f"/user-{uid}.slice")
    return head + found if found else None


def _container_around(path: str) -> str:
    """Return the innermost cgroup of a path that is named after a container id; empty for none."""
    head = path
    while head:
        name = head.rpartition("/")[2].removesuffix(".scope")
        # conmon monitors a container from outside, in a cgroup of its own
        if is_id(name[-64:]) and name[-65:-64] in {"", "-", ":"} and not name.endswith("conmon-" + name[-64:]):
            return head
        head = head.rpartition("/")[0]
    return ""


def _has_full_rights(pid: str) -> bool:
    """Whether a process has CAP_SYS_ADMIN over the machine, as a privileged container's has."""
    if os.readlink(f"/proc/{pid}/ns/user") != _INITIAL_USER_NAMESPACE:
        return False
    with open(f"/proc/{pid}/status", "rb") as file:
        for line in file:
            if line.startswith(b"CapEff:"):
                return bool(int(line.split()[1], 16) & _CAP_SYS_ADMIN)
    return False
