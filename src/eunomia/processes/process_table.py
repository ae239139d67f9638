# SPDX-License-Identifier: BSD-2-Clause
"""Table of processes by process id, kept up to date by records of the kernel.

A process is a chain of :class:`Process` objects, one from its start and one from each exec; a row's time says which of
them made it. Drain the trackers' streams before this one: then the processes of all rows are known.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence

from eunomia.batch import Batch
from eunomia.kernel_clock import monotonic_ns
from eunomia.process_identity import LOST_PROCESS, UNKNOWN_PROCESS, Process, ProcessRoot, Unsure
from eunomia.processes.running_processes import argv_of, look_up, process_of
from eunomia.typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from eunomia.processes.users import Users

FOUND, FORKED, EXECUTED, ENDED = range(4)  # enum kind in processes.bpf.c

# ns that an object is remembered after its end was reported: its rows may still be in a ring, and reach a reader that
# was stopped, or had no processor, together with the end.
GRACE = 2_000_000_000
LIVING = 65536  # running processes, at most
LATELY = 32768  # objects that ended within the grace time, at most
KEPT = 16384  # objects that ended earlier and are ancestors of running processes, at most
ENDING = 10_000_000  # ns by which rows about an end may be later than it: their probe runs after the table's
GAPS = 64  # intervals with lost records that are remembered
CHAIN = 32  # ended ancestors in a row, at most
_STEPS = 256  # ancestors that are searched, at most

_COLUMNS = (
    "kind", "time", "pid", "start", "ppid", "parent_start", "maker", "maker_start", "uid", "session",
    "cgroup_id", "root", "mnt_ns", "user_ns", "comm", "tty", "exe", "argv",
)  # fmt: skip


Row = tuple[Any, ...]


class ProcessTable:
    """The process that each process id is, and was lately.

    ``refused`` counts processes that found no room, ``cut`` ended ones that were forgotten early, ``refills`` reads of
    all processes after lost records. ``unsure`` and ``blank`` count rows of intervals with lost records: with a process
    that may be another program by then, and without one.
    """

    def __init__(
        self,
        users: Users | None = None,
        *,
        argv_of: Callable[[int], bytes] = argv_of,
        look_up: Callable[[int, int], Process | None] = look_up,
        clock: Callable[[], int] = monotonic_ns,
    ) -> None:
        """Start empty; ``users`` finds users' names, if they are wanted; ``argv_of`` and ``look_up`` read ``/proc``."""
        self.users = users
        self.refused = 0
        self.cut = 0
        self.refills = 0
        self.unsure = 0
        self.blank = 0
        self._gaps: deque[tuple[int, int]] = deque(maxlen=GAPS)
        self._argv_of = argv_of
        self._look_up = look_up
        self._clock = clock
        self._newest: dict[int, Process] = {}
        self._before: dict[int, list[Process]] = {}  # earlier objects with the same pid, oldest first
        self._living = 0
        self._ended: deque[tuple[int, Process]] = deque()  # ended or replaced objects, and when that was reported
        self._last_record = 0  # when records were last taken
        self._kept: dict[Process, None] = {}  # ended long ago, but ancestors; oldest first
        self._locations: dict[ProcessRoot, ProcessRoot] = {}
        self._unshown: set[int] = set()  # pids that only /proc shows

    def __len__(self) -> int:
        """Return the number of running processes."""
        return self._living

    def __iter__(self) -> Iterator[Process]:
        """Yield the running processes."""
        return (p for p in self._newest.values() if not p.ended)

    @property
    def remembered(self) -> int:
        """How many ended objects the table holds."""
        return len(self._ended) + len(self._kept)

    # Joins

    def at(self, pid: int, when: int = 0) -> Process | None:
        """Return the process that had a pid at a time (monotonic ns), 0 for the newest one; None if unknown."""
        newest = self._newest.get(pid)
        if newest is None or not when:
            return newest
        found: Process | None = newest
        if newest.since > when:
            found = next((p for p in reversed(self._before.get(pid, ())) if p.since <= when), None)
        if found is not None and found.ended and when > found.ended + ENDING and self._is_in_gap(when):
            return None  # another process had the pid by then; its records were lost
        return found

    def _is_in_gap(self, when: int) -> bool:
        return any(begin <= when <= end for begin, end in self._gaps)

    def join(self, batch: Batch, pids: Sequence[int], threads: bool = False) -> None:
        """Set the processes of a batch's rows by their process ids, with one lookup for each distinct id.

        With ``threads`` they may be ids of threads.
        """
        if threads:
            processes = {one: one if one in self._newest else process_of(one) for one in set(pids)}
            pids = [processes[one] for one in pids]
        times = batch.raw(batch.schema.time.name) if batch.schema.time else [0] * batch.count
        first = min(times, default=0)
        if self._gaps and first and first <= self._gaps[-1][1]:
            self._join_beside_gaps(batch, pids, times)
            self._name_users(batch)
            return
        actors: dict[Process, int] = {UNKNOWN_PROCESS: 0}
        sure: dict[int, int] = {}
        doubtful = set()
        for one in set(pids):
            newest = self._newest.get(one)
            if newest is None:
                sure[one] = 0
            elif not first or (newest.since <= first and not newest.ended):
                sure[one] = actors.setdefault(newest, len(actors))
            else:
                doubtful.add(one)
        if doubtful:
            batch.actor = [
                actors.setdefault(self.at(p, t) or UNKNOWN_PROCESS, len(actors)) if p in doubtful else sure[p]
                for p, t in zip(pids, times, strict=True)
            ]
        else:
            batch.actor = [sure[p] for p in pids]
        batch.actors = list(actors)
        self._name_users(batch)

    def _join_beside_gaps(self, batch: Batch, pids: Iterable[int], times: Iterable[int]) -> None:
        actors: dict[Process, int] = {}
        twins: dict[Process, Process] = {}
        which = []
        for pid, when in zip(pids, times, strict=True):
            actor = self.at(pid, when)
            if self._is_in_gap(when):
                if actor is None:
                    self.blank += 1
                    actor = LOST_PROCESS
                else:
                    self.unsure += 1
                    actor = twins.get(actor) or twins.setdefault(actor, Unsure.like(actor))
            which.append(actors.setdefault(actor or UNKNOWN_PROCESS, len(actors)))
        batch.actors, batch.actor = list(actors), which

    def _name_users(self, batch: Batch) -> None:
        if self.users is not None:
            for actor in batch.actors:
                if actor.user is None:
                    actor.user = self.users.name(actor)

    # Records

    def fill(self, batch: Batch) -> None:
        """Process the iterator's records; processes that are not among them have ended."""
        now = self._last_record = self._clock()
        seen = set()
        for row in _rows(batch):
            _, when, pid, start = row[:4]
            seen.add(pid)
            known = self._newest.get(pid)
            if known is None or known.start != start:
                argv = self._argv_of(pid) if row[-2] else b""  # kernel threads have neither
                self._begin((*row[:-1], argv), start, None)
            elif known.comm_bytes != row[14] or known.exe_bytes != row[16]:  # an exec whose record was lost
                self._replace(known, (*row[:-1], self._argv_of(pid)), when)
        for process in list(self):
            pid = process.pid
            if pid not in seen and not (pid in self._unshown and self._look_up(pid, process.start)):
                self._end(process, now)
        for process in list(self):
            if process.parent is None and process.ppid:
                self._adopt(process)

    def refill(self, batch: Batch, since: int = 0) -> None:
        """Process the iterator's records after others were lost, none of them before ``since`` (monotonic ns)."""
        self.refills += 1
        self.fill(batch)
        self._gaps.append((since, self._clock()))

    def feed(self, batches: Iterable[Batch]) -> None:
        """Process drained batches of the stream ``life``."""
        self._last_record = self._clock()
        for batch in batches:
            for row in _rows(batch):
                kind, when, pid, start = row[:4]
                known = self._newest.get(pid)
                if known is not None and known.start > start:
                    continue  # of an earlier process with this pid
                same = known if known is not None and known.start == start else None
                if kind == ENDED:
                    if same is not None and not same.ended:
                        self._end(same, when)
                elif same is None:
                    maker = self._who(row[6], row[7]) if kind == FORKED else None
                    self._begin(row, start if kind == FORKED else when, maker)
                elif kind == EXECUTED and when > same.since and not same.ended:
                    self._replace(same, row, when)

    def tick(self, now: int, drained: int | None = None) -> None:
        """Forget objects that ended long ago.

        ``drained`` is when the last drain began that emptied all rings: later ends may still have rows in a ring.
        """
        if self.users is not None:
            self.users.look(now)
        ended = self._ended
        until = now - GRACE if drained is None else min(now - GRACE, drained)
        while ended and (ended[0][0] <= until or len(ended) > LATELY):
            since, process = ended.popleft()
            self.cut += since > until
            self._leave(process)

    def next_deadline(self) -> int | None:
        """Return when :meth:`tick` is due (monotonic ns); ``None`` for never."""
        return self._ended[0][0] + GRACE if self._ended else None

    # Starts and ends

    def _who(self, pid: int, start: int) -> Process | None:
        newest = self._newest.get(pid)
        return newest if newest is not None and newest.start == start else None

    def _make(self, row: Row, since: int) -> Process:
        pid, start, ppid, parent_start, _, _, uid, session, cgroup_id, *location, comm, tty, exe, argv = row[2:]
        process = Process(pid, start, since)
        process.ppid, process.parent_start = ppid, parent_start
        process.uid, process.session, process.cgroup_id = uid, session, cgroup_id
        process.comm_bytes, process.tty_bytes = comm, tty
        process.exe_bytes, process.argv_bytes = exe, argv
        if len(self._locations) > LIVING:
            self._locations.clear()
        place = ProcessRoot(*location)
        process.location = self._locations.setdefault(place, place)
        if self.users is not None:
            self.users.learn(process)
        return process

    def _begin(self, row: Row, since: int, maker: Process | None) -> None:
        pid = row[2]
        before = self._newest.get(pid)
        if before is not None and not before.ended:
            self._end(before, since)  # its end was lost
        if self._living >= LIVING:
            self.refused += 1
            return
        process = self._make(row, since)
        if maker is not None:
            process.exe_bytes, process.argv_bytes = maker.exe_bytes, maker.argv_bytes
        same = maker is not None and maker.pid == process.ppid and maker.start == process.parent_start
        self._set_parent(process, maker if same else self._who(process.ppid, process.parent_start))
        self._living += 1
        self._put(process)

    def _replace(self, before: Process, row: Row, when: int) -> None:
        process = self._make(row, when)
        # the process that forked it, not its present parent
        process.ppid, process.parent_start = before.ppid, before.parent_start
        self._set_parent(process, before.parent)
        self._ended.append((self._last_record, before))
        self._put(process)

    def _put(self, process: Process) -> None:
        pid = process.pid
        before = self._newest.get(pid)
        if before is not None:
            self._before.setdefault(pid, []).append(before)
        self._newest[pid] = process

    def _set_parent(self, process: Process, parent: Process | None) -> None:
        process.parent = parent
        if parent is not None:
            parent.children += 1
            process.parent_start = parent.start  # the same object

    def _adopt(self, process: Process) -> None:
        """Find a process's parent; in a PID namespace the iterator does not show all processes."""
        parent = self._who(process.ppid, process.parent_start)
        if parent is None and process.ppid not in self._newest and self._living < LIVING:
            parent = self._look_up(process.ppid, process.parent_start)
            if parent is not None:
                self._unshown.add(parent.pid)
                self._put(parent)
                self._living += 1
        self._set_parent(process, parent)

    def _end(self, process: Process, when: int) -> None:
        process.ended = when
        self._living -= 1
        self._ended.append((self._last_record, process))

    def _leave(self, process: Process) -> None:
        """Remove an ended object from its pid; it is kept while it is a parent."""
        before = self._before.get(process.pid)
        if self._newest.get(process.pid) is process:
            del self._newest[process.pid]
        elif before is not None:
            before.remove(process)  # the first one
        if before is not None and not before:
            del self._before[process.pid]
        if not process.children:
            self._release(process)
            return
        self._kept[process] = None
        self._shorten(process)
        if len(self._kept) > KEPT:
            self._forget(next(iter(self._kept)))

    def _release(self, process: Process) -> None:
        """Drop an object without children, and its kept ancestors that have no others."""
        parent = process.parent
        while parent is not None:
            parent.children -= 1
            if parent.children or parent not in self._kept:
                return
            del self._kept[parent]
            parent = parent.parent

    def _shorten(self, process: Process) -> None:
        """Limit the chain of ended ancestors of a newly kept object."""
        count = 0
        above: Process | None = process
        for _ in range(_STEPS):
            if above is None:
                return
            count += above in self._kept
            if count > CHAIN:
                self._forget(above)
                return
            above = above.parent

    def _forget(self, process: Process) -> None:
        """Forget all of an ended ancestor except its name: its descendants still point to it."""
        self.cut += 1
        del self._kept[process]
        self._release(process)
        process.parent = None
        process.argv_bytes = process.exe_bytes = process.tty_bytes = b""


def _rows(batch: Batch) -> Iterator[Row]:
    """Yield records as tuples of :data:`_COLUMNS`, texts as bytes; frequent texts share one object."""
    heap = batch.heap
    columns = [batch.raw(name) for name in _COLUMNS]
    for at in (14, 15):
        columns[at] = [_c_string(raw) for raw in columns[at]]
    for at in (16, 17):
        columns[at] = [heap[i : i + size] if size else b"" for i, size in columns[at]]
    return zip(*columns, strict=True)


_strings: dict[bytes, bytes] = {}


def _c_string(raw: bytes) -> bytes:
    known = _strings.get(raw)
    if known is None:
        if len(_strings) > 4096:
            _strings.clear()
        known = _strings[raw] = raw.partition(b"\0")[0]
    return known
