# SPDX-License-Identifier: BSD-2-Clause
"""Writers write bytes without blocking, and count rows as delivered or dropped.

A slow reader loses rows, which are counted; it never stops the drain.
"""

from __future__ import annotations

import errno
import os
import stat
import sys
import time
from collections.abc import Callable, Mapping, Sequence

Key = tuple[str, str]

SLOW = "slow reader"
CLOSED = "closed pipe"


class Unit:
    """Whole lines, their number of rows by stream, and the stream of each row if there are several.

    Rows of one line each can be counted in a part of a unit; if rows have several lines, a unit is
    delivered completely or not at all.
    """

    __slots__ = ("data", "order", "rows")

    def __init__(self, data: bytes, rows: Mapping[Key, int], order: Sequence[Key] = ()) -> None:
        self.data = data
        self.rows = rows
        self.order = order

    def within(self, size: int) -> Mapping[Key, int]:
        """Return how many rows by stream are complete in the first ``size`` bytes."""
        if size >= len(self.data):
            return self.rows
        if self.data.count(b"\n") != sum(self.rows.values()):
            return dict.fromkeys(self.rows, 0)
        lines = self.data.count(b"\n", 0, size)
        if len(self.rows) == 1:
            return dict.fromkeys(self.rows, lines)
        counts = dict.fromkeys(self.rows, 0)
        for key in self.order[:lines]:
            counts[key] += 1
        return counts


def _say(message: str) -> None:
    sys.stderr.write(f"eunomia: {message}\n")
    sys.stderr.flush()


class Writer:
    """Base of all writers, with the counts. ``delivered`` and ``dropped`` are rows by stream.

    ``closed`` becomes true when the reader is gone; the engine then ends the output. ``terminal`` is
    the descriptor, if it is a terminal.
    """

    def __init__(self) -> None:
        self.terminal: int | None = None
        self.delivered: dict[Key, int] = {}
        self.dropped: dict[Key, dict[str, int]] = {}
        self.closed = False

    def start(self, header: bytes) -> None:
        """Set the header of each file, and write it; call it again if it changes."""
        raise NotImplementedError

    def write(self, data: bytes, rows: Mapping[Key, int], order: Sequence[Key] = ()) -> None:
        """Take whole lines with so many rows by stream; ``order`` is the stream of each row."""
        raise NotImplementedError

    def flush(self) -> None:
        """Write what waits, without blocking."""

    def close(self) -> None:
        """Write what waits, for a bounded time; count the rest as dropped."""

    @property
    def waiting(self) -> dict[Key, int]:
        """Rows by stream that were taken and neither delivered nor dropped yet."""
        return {}

    def _deliver(self, rows: Mapping[Key, int]) -> None:
        for key, count in rows.items():
            self.delivered[key] = self.delivered.get(key, 0) + count

    def _drop(self, unit: Unit, reason: str, delivered: Mapping[Key, int] | None = None) -> None:
        """Count a unit's rows as dropped, less those that were delivered."""
        for key, count in unit.rows.items():
            lost = count - (delivered or {}).get(key, 0)
            if lost:
                reasons = self.dropped.setdefault(key, {})
                reasons[reason] = reasons.get(reason, 0) + lost


class FileWriter(Writer):
    """Writes to a regular file or a device; a file is rotated at ``limit`` bytes, ``keep`` older ones stay.

    When the disk is full or fails, rows are dropped and counted by the error's text, no partial line stays,
    and each later write tries again.
    """

    def __init__(
        self,
        fd: int,
        name: str,
        *,
        path: str | None = None,
        limit: int = 0,
        keep: int = 5,
        say: Callable[[str], None] = _say,
    ) -> None:
        super().__init__()
        self._fd = fd
        self._name = name
        self._path = path
        self._regular = stat.S_ISREG(os.fstat(fd).st_mode)
        self._limit = limit if self._regular and path else 0
        self._keep = keep
        self._say = say
        self._header = b""
        self._headed = False
        self._size = os.lseek(fd, 0, os.SEEK_END) if self._regular else 0
        self._failing = ""
        self._failed_at = 0.0
        self._lost = 0
        self._rotate_at = 0.0

    def start(self, header: bytes) -> None:
        """Set the header of each file, and write it; call it again if it changes."""
        self._header = header
        self._headed = False
        self._begin()

    def _begin(self) -> bool:
        """Write the header if this file lacks it; return whether it has one now."""
        if not self._headed:
            done, error = self._put(self._header)
            if error:
                self._fail(error, 0)
            self._headed = done == len(self._header)
        return self._headed

    def write(self, data: bytes, rows: Mapping[Key, int], order: Sequence[Key] = ()) -> None:
        """Write lines, into several files if they exceed the limit."""
        unit = Unit(data, rows, order)
        if self.closed:
            self._drop(unit, CLOSED)
            return
        done = 0
        while done < len(data):
            end = self._end(data, done)
            if not self._begin():
                self._drop(unit, self._failing or CLOSED, unit.within(done))
                self._deliver(unit.within(done))
                return
            put, error = self._put(data[done:end] if done or end < len(data) else data)
            done += put
            if error:
                kept = unit.within(done)
                self._deliver(kept)
                self._drop(unit, error, kept)
                self._fail(error, sum(rows.values()) - sum(kept.values()))
                return
        self._deliver(rows)
        if self._failing and time.monotonic() - self._failed_at > 1:
            self._say(f"{self._name}: writing works again; {self._lost} rows were dropped")
            self._failing = ""

    def _put(self, data: bytes) -> tuple[int, str]:
        """Write whole lines; return how many bytes were kept, and the error, if any."""
        view, done = memoryview(data), 0
        try:
            while done < len(data):
                done += os.write(self._fd, view[done:] if done else view)
        except BrokenPipeError:
            self.closed = True
            return self._cut(data, done), CLOSED
        except OSError as error:
            return self._cut(data, done), error.strerror or str(error)
        self._size += done
        return done, ""

    def _cut(self, data: bytes, done: int) -> int:
        """Remove a partial line from the file; return how many of ``data``'s bytes were kept."""
        whole = data.rfind(b"\n", 0, done) + 1
        self._size += whole
        if not self._regular or whole == done:
            return whole
        try:
            end = os.lseek(self._fd, 0, os.SEEK_CUR)
            if end == os.fstat(self._fd).st_size:  # no other process has written since
                os.ftruncate(self._fd, end - (done - whole))
                os.lseek(self._fd, end - (done - whole), os.SEEK_SET)
        except OSError:
            pass  # the disk's error is already known and will be reported
        return whole

    def _fail(self, error: str, lost: int) -> None:
        self._failed_at = time.monotonic()
        if not self._failing:
            self._lost = 0
            if error != CLOSED:
                self._say(f"{self._name}: {error}; rows are dropped and counted until writing works again")
        self._failing = error
        self._lost += lost

    # Rotation

    def _end(self, data: bytes, start: int) -> int:
        """Return the end of the part of ``data`` that fits into the file; rotate a full one."""
        if not self._limit or self._size + len(data) - start <= self._limit:
            return len(data)
        room = max(0, self._limit - self._size)
        end = data.rfind(b"\n", start, start + room) + 1
        if end > start:
            return end
        if self._size > len(self._header) and not self._rotate():
            return len(data)
        room = max(0, self._limit - max(self._size, len(self._header)))
        # a line longer than the limit gets its own file
        return (data.rfind(b"\n", start, start + room) + 1) or (data.find(b"\n", start) + 1) or len(data)

    def _rotate(self) -> bool:
        """Begin a new file; the present one becomes FILE.1, FILE.1 becomes FILE.2 and so on."""
        if time.monotonic() < self._rotate_at or self._path is None:
            return False
        try:
            fd = shift(self._path, self._keep)
        except OSError as error:
            self._say(f"cannot rotate {self._name}: {error.strerror}; it grows past its limit")
            self._rotate_at = time.monotonic() + 60
            return False
        os.close(self._fd)
        self._fd, self._size, self._headed = fd, 0, False
        return True

    def close(self) -> None:
        """Close the file."""
        if self._fd > 2:
            try:
                os.close(self._fd)
            except OSError as error:
                self._say(f"{self._name}: {error.strerror}")
            self._fd = -1
        self.closed = True


class PipeWriter(Writer):
    """Writes to a pipe, a terminal or a socket; up to ``bound`` bytes wait for a slow reader."""

    def __init__(self, fd: int, bound: int = 8 << 20, patience: float = 2.0) -> None:
        super().__init__()
        self.terminal = fd if os.isatty(fd) else None
        self._fd = fd
        self._put, self._let_go = (_to_socket if stat.S_ISSOCK(os.fstat(fd).st_mode) else _to_pipe)(fd)
        self._bound = bound
        self._patience = patience
        self._queue: list[Unit] = []
        self._sent = 0  # bytes of the queue's first unit
        self._size = 0  # bytes that wait
        self._done = False

    def start(self, header: bytes) -> None:
        """Write the header, which is not counted as a row."""
        self.write(header, {})

    def write(self, data: bytes, rows: Mapping[Key, int], order: Sequence[Key] = ()) -> None:
        """Write lines, or queue them, or drop them if the queue is full."""
        unit = Unit(data, rows, order)
        if self._queue:
            self.flush()
        if self.closed:
            self._drop(unit, CLOSED)
        elif self._size and self._size + len(data) > self._bound:
            self._drop(unit, SLOW)
        else:
            self._queue.append(unit)
            self._size += len(data)
            if len(self._queue) == 1:
                self.flush()

    def flush(self) -> None:
        """Write what the reader can take now."""
        finished = 0
        try:
            for unit in self._queue:
                view = memoryview(unit.data)
                while self._sent < len(unit.data):
                    count = self._put(view[self._sent :])
                    if not count:
                        return
                    self._sent += count
                    self._size -= count
                self._deliver(unit.rows)
                self._sent = 0
                finished += 1
        except OSError as error:
            gone = isinstance(error, BrokenPipeError | ConnectionError)
            self._abandon(finished, CLOSED if gone else error.strerror or str(error))
            finished = 0
            self.closed = True
        finally:
            del self._queue[:finished]

    def _abandon(self, finished: int, reason: str) -> None:
        """Drop what waits after the first ``finished`` units."""
        for i, unit in enumerate(self._queue[finished:]):
            kept = {} if i else unit.within(self._sent)
            self._deliver(kept)
            self._drop(unit, reason, kept)
        self._queue.clear()
        self._sent = self._size = 0

    @property
    def waiting(self) -> dict[Key, int]:
        """Rows by stream that wait for the reader."""
        counts: dict[Key, int] = {}
        for unit in self._queue:
            for key, count in unit.rows.items():
                counts[key] = counts.get(key, 0) + count
        return counts

    def close(self) -> None:
        """Give the reader ``patience`` more seconds, then count the rest as dropped."""
        import select

        poll = select.poll()
        if self._queue:
            poll.register(self._fd, select.POLLOUT)
        until = time.monotonic() + self._patience
        self.flush()
        while self._queue and (left := until - time.monotonic()) > 0:
            poll.poll(min(left, 0.1) * 1000)
            self.flush()
        self._abandon(0, SLOW)
        if not self._done:
            self._let_go()
            if self._fd > 2:
                os.close(self._fd)
        self._done = self.closed = True


def shift(path: str, keep: int) -> int:
    """Rename FILE to FILE.1, FILE.1 to FILE.2 and so on, ``keep`` of them; return an empty new FILE, open.

    Raises OSError, and then FILE is unchanged.
    """
    fresh = f"{path}.new"
    fd = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        for i in range(keep - 1, 0, -1):
            if os.path.lexists(f"{path}.{i}"):
                os.replace(f"{path}.{i}", f"{path}.{i + 1}")
        if keep > 0:
            os.replace(path, f"{path}.1")
        os.replace(fresh, path)
    except OSError:
        os.close(fd)
        os.unlink(fresh)
        raise
    return fd


_UNITS = {"": 1, "k": 1000, "m": 1000**2, "g": 1000**3, "t": 1000**4}
_LARGEST = 1 << 60  # bytes: more is a typing error
_UNITS |= {f"{unit}i": 1024 ** (i + 1) for i, unit in enumerate("kmgt")}


def parse_size(text: str) -> int:
    """Return bytes from text such as ``100MB``, ``1GiB`` or ``500k``. Raises ValueError."""
    import re

    match = re.fullmatch(r"([0-9]+(?:\.[0-9]+)?)\s*([kmgt]i?|)b?", text.strip().lower())
    size = float(match[1]) * _UNITS[match[2]] if match else 0.0
    if not 1 <= size < _LARGEST:
        shown = text if len(text) <= 40 else f"{text[:40]}..."
        raise ValueError(f"'{shown}' is not a size; write bytes as in 100MB, 1GiB or 500k")
    return int(size)


def open_writer(path: str | None = None, rotate: int = 0, keep: int = 5, fd: int = 1) -> Writer:
    """Return a writer to a path, or if there is none or it is ``-``, to an open descriptor.

    A regular file is overwritten; with ``rotate``, in bytes, an existing one is kept as FILE.1.
    Files are created with mode 0600. Raises ValueError or OSError with a sentence that names the path.
    """
    name = "standard output"
    if path is not None and path != "-":
        fd = _open(path, rotate, keep)
        name = path
    elif rotate:
        raise ValueError("only a file can be rotated: name it with --output")
    mode = os.fstat(fd).st_mode
    if stat.S_ISREG(mode):
        return FileWriter(fd, name, path=path if name == path else None, limit=rotate, keep=keep)
    if rotate:
        raise ValueError(f"{path} is not a regular file and cannot be rotated")
    if stat.S_ISFIFO(mode) or stat.S_ISSOCK(mode) or os.isatty(fd):
        return PipeWriter(fd)
    return FileWriter(fd, name)


def _open(path: str, rotate: int, keep: int) -> int:
    try:
        if rotate and os.path.isfile(path) and os.path.getsize(path):
            return shift(path, keep)
        # O_NONBLOCK: a named pipe without a reader is an error, not a wait
        flags = os.O_WRONLY | os.O_CREAT | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
        fd = os.open(path, flags, 0o600)
        if stat.S_ISREG(os.fstat(fd).st_mode):
            os.ftruncate(fd, 0)
    except OSError as error:
        reason = error.strerror or str(error)
        if isinstance(error, FileNotFoundError):
            reason = f"its directory {os.path.dirname(path) or '.'!r} does not exist"
        elif isinstance(error, IsADirectoryError):
            reason = "it is a directory; name a file"
        elif error.errno == errno.ENXIO:
            reason = "this pipe has no reader; start its reader first"
        raise OSError(error.errno, f"cannot write to {path!r}: {reason}") from error
    return fd


_Way = tuple[Callable[[memoryview], int], Callable[[], object]]


def _to_pipe(fd: int) -> _Way:
    """Return two functions: one writes what fits now to a pipe or terminal and returns its size; one closes it.

    Opened again, the pipe can be non-blocking without affecting others that share the descriptor. If
    that is refused: POLLOUT on a pipe means room for PIPE_BUF bytes.
    """
    flags = os.O_WRONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
    try:
        own = os.open(f"/proc/self/fd/{fd}", flags)
    except OSError:
        return _polled(fd)

    def put(view: memoryview) -> int:
        try:
            return os.write(own, view)
        except BlockingIOError:
            return 0

    return put, lambda: os.close(own)


def _polled(fd: int, most: int = 4096) -> _Way:
    import select

    poll = select.poll()
    poll.register(fd, select.POLLOUT)

    def put(view: memoryview) -> int:
        return os.write(fd, view[:most]) if poll.poll(0) else 0

    return put, lambda: None


def _to_socket(fd: int) -> _Way:
    import socket

    own = socket.socket(fileno=os.dup(fd))

    def put(view: memoryview) -> int:
        try:
            return own.send(view, socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL)
        except BlockingIOError:
            return 0

    return put, own.close
