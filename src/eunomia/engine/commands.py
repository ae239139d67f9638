# SPDX-License-Identifier: BSD-2-Clause
"""Commands of other threads: callables that the engine's thread runs between two steps."""

from __future__ import annotations

import os
from _thread import allocate_lock, get_ident
from collections import deque
from collections.abc import Callable
from contextlib import suppress

from eunomia.typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from concurrent.futures import Future

T = TypeVar("T")


class Commands:
    """A queue of callables, and an eventfd that is readable while it is not empty."""

    def __init__(self) -> None:
        self.descriptor = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._waiting: deque[tuple[Callable[[], Any], Future[Any]]] = deque()
        self._lock = allocate_lock()
        self._owner: int | None = None
        self._closed = False
        self.pending = False  # whether there are commands to run, or wake() was called

    def own(self) -> None:
        """Make the calling thread the engine's."""
        self._owner = get_ident()

    def submit(self, command: Callable[[], T]) -> Future[T]:
        """Have the engine's thread call ``command``; any thread may submit.

        The future has its result or exception. The engine's own thread calls it immediately. Raises
        :class:`RuntimeError` if the engine is closed.
        """
        from concurrent.futures import Future

        future: Future[T] = Future()
        if self._owner == get_ident():
            _call(command, future)
            return future
        with self._lock:
            if self._closed:
                raise RuntimeError("the engine is closed")
            self._waiting.append((command, future))
            self.pending = True
            os.eventfd_write(self.descriptor, 1)
        return future

    def wake(self) -> None:
        """Let the engine take its next step now."""
        if not self._closed:
            self.pending = True
            os.eventfd_write(self.descriptor, 1)

    def run(self) -> None:
        """Call the submitted commands, in order."""
        self.pending = False
        with suppress(BlockingIOError):
            os.eventfd_read(self.descriptor)
        while self._waiting:
            _call(*self._waiting.popleft())

    def close(self) -> None:
        """Refuse new commands; cancel those that were not called yet."""
        with self._lock:
            if self._closed:
                return
            self._closed = True
            os.close(self.descriptor)
        while self._waiting:
            self._waiting.popleft()[1].cancel()


def _call(command: Callable[[], T], future: Future[T]) -> None:
    if not future.set_running_or_notify_cancel():
        return
    try:
        future.set_result(command())
    except BaseException as error:
        future.set_exception(error)
        if not isinstance(error, Exception):  # a KeyboardInterrupt also ends the engine
            raise
