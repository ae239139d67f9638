# SPDX-License-Identifier: BSD-2-Clause
"""Process of a row: its program, arguments, user and ancestors.

Texts are untrusted: they are kept as bytes, and sinks escape them.
"""

from __future__ import annotations

from collections.abc import Iterator

from eunomia.meaning import decode, exec_id
from eunomia.typing import NamedTuple

SHOWN_ANCESTORS = 16

# Values of `process.state`.
KNOWN = "known"
UNSURE = "unsure"  # records of processes were lost at that time: its program may be that before, or after, an exec
LOST = "lost"  # records of processes were lost at that time, this process's among them
UNKNOWN = "unknown"  # none of the above: it was never reported


class ProcessRoot(NamedTuple):
    """A process's root directory, as a unique number, and its namespaces."""

    root: int
    mnt_ns: int
    user_ns: int


class Process:
    """A process from ``since`` on: an exec makes a new object, with the same ``pid`` and ``start``.

    Times are monotonic nanoseconds, ids the host's. ``parent`` is the process that forked it, as it was then, and None
    if unknown; ``ended`` is 0 while it runs. ``user`` is None until it was asked for.
    """

    state = KNOWN

    __slots__ = (
        "argv_bytes", "cgroup_id", "children", "comm_bytes", "ended", "exe_bytes", "location", "parent", "parent_start",
        "pid", "ppid", "session", "since", "start", "tty_bytes", "uid", "user",
    )  # fmt: skip

    def __init__(self, pid: int, start: int, since: int) -> None:
        self.pid = pid
        self.start = start
        self.since = since
        self.ended = 0
        self.children = 0  # objects whose parent this is
        self.parent: Process | None = None
        self.ppid = 0
        self.parent_start = 0
        self.uid = 0
        self.session = 0
        self.cgroup_id = 0
        self.location = _NOWHERE
        self.comm_bytes = b""
        self.exe_bytes = b""
        self.argv_bytes = b""
        self.tty_bytes = b""
        self.user: str | None = None

    def __repr__(self) -> str:
        return f"<Process {self.pid} {self.comm}, began {self.start}>"

    @property
    def exec_id(self) -> str:
        """The text that identifies it permanently."""
        return exec_id(self.start, self.pid)

    @property
    def parent_exec_id(self) -> str:
        """The exec id of its parent; empty for none."""
        return exec_id(self.parent_start, self.ppid)

    @property
    def comm(self) -> str:
        """The command's name."""
        return decode(self.comm_bytes)

    @property
    def exe(self) -> str:
        """The program's file, inside its root; empty for kernel threads."""
        return decode(self.exe_bytes)

    @property
    def argv(self) -> list[str]:
        """The arguments, as far as they were recorded."""
        text = decode(self.argv_bytes)
        return text.removesuffix("\0").split("\0") if text else []

    @property
    def tty(self) -> str:
        """The controlling terminal below ``/dev``, such as ``pts/0``; empty for none."""
        name = decode(self.tty_bytes)
        return f"pts/{name[3:]}" if name[:3] == "pts" and name[3:].isdecimal() else name

    def ancestors(self, limit: int = SHOWN_ANCESTORS) -> Iterator[Process]:
        """Yield its parent, that one's parent, and so on, at most ``limit``."""
        above = self.parent
        while above is not None and limit:
            yield above
            above = above.parent
            limit -= 1

    def brief(self) -> dict[str, object]:
        """Return the values that are shown of an ancestor."""
        return {"pid": self.pid, "comm": self.comm, "argv": self.argv, "exec_id": self.exec_id}


_NOWHERE = ProcessRoot(0, 0, 0)


class Unsure(Process):
    """A process at a time when records were lost."""

    __slots__ = ()
    state = UNSURE

    @classmethod
    def like(cls, process: Process) -> Unsure:
        """Return a copy of a process that is marked as unsure."""
        made = cls(process.pid, process.start, process.since)
        for name in Process.__slots__:
            setattr(made, name, getattr(process, name))
        return made


class _Unknown(Process):
    """Stands for an unknown process."""

    __slots__ = ()
    state = UNKNOWN


class _Lost(Process):
    """Stands for a process whose records were lost."""

    __slots__ = ()
    state = LOST


UNKNOWN_PROCESS: Process = _Unknown(0, 0, 0)
LOST_PROCESS: Process = _Lost(0, 0, 0)
UNKNOWN_PROCESS.user = LOST_PROCESS.user = ""
