# SPDX-License-Identifier: BSD-2-Clause
"""A thread that answers questions which may take long, one after another."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Hashable
from threading import Condition, Thread

from eunomia.faults import Faults
from eunomia.typing import Any, NamedTuple

_CLOSING = 0.2  # seconds that a thread has to end, one that waits for somebody is left behind


class _Question(NamedTuple):
    key: Hashable
    ask: Callable[[], Any]
    apply: Callable[[Any], None]


class Worker:
    """Takes questions under keys, at most one at a time for each key; the asker collects the answers.

    ``late`` says that the asker has waited for an answer in vain: there is no use in waiting for the next one.
    The thread is started by the first question. Python does not wait for it at its exit.
    """

    def __init__(self, name: str, wake: Callable[[], None], faults: Faults) -> None:
        """``name`` is shown in errors; ``wake`` is called from the thread when there is an answer."""
        self._name = name
        self._wake = wake
        self._faults = faults
        self._changed = Condition()
        self._todo: deque[_Question] = deque()
        self._answers: deque[tuple[_Question, Any]] = deque()
        self._open: dict[Hashable, bool] = {}  # the keys of questions without an answer, and whether to ask again
        self._thread: Thread | None = None
        self._closed = False
        self.late = False

    @property
    def busy(self) -> bool:
        """Whether there are questions whose answers were not applied yet."""
        return bool(self._open)

    def is_asked(self, key: Hashable) -> bool:
        """Whether there is a question under this key without an answer."""
        return key in self._open

    def ask(self, key: Hashable, ask: Callable[[], Any], apply: Callable[[Any], None], again: bool = False) -> None:
        """Have ``ask`` called in the thread, and its result given to ``apply`` by :meth:`apply_answers`.

        Nothing happens where there is such a question already; with ``again`` it is asked once more when that is
        answered, as the answer may be older than the reason to ask.
        """
        if key in self._open:
            self._open[key] |= again
            return
        self._open[key] = False
        with self._changed:
            self._todo.append(_Question(key, ask, apply))
            self._changed.notify()
        if self._thread is None and not self._closed:
            self._thread = Thread(target=self._run, name=f"eunomia {self._name}", daemon=True)
            self._thread.start()

    def apply_answers(self) -> int:
        """Apply the answers that have come, on the calling thread; return how many."""
        count = 0
        while self._answers:
            question, answer = self._answers.popleft()
            again = self._open.pop(question.key)
            if again:
                self.ask(*question)
            count += 1
            question.apply(answer)
        if not self._open:
            self.late = False
        return count

    def close(self) -> None:
        """Let the thread end; one that waits for somebody ends when that is over."""
        with self._changed:
            self._closed = True
            self._todo.clear()
            self._changed.notify()
        if self._thread is not None:
            self._thread.join(0 if self.late else _CLOSING)

    def _run(self) -> None:
        while True:
            with self._changed:
                while not self._todo and not self._closed:
                    self._changed.wait()
                if self._closed:
                    return
                question = self._todo.popleft()
            answer = self._faults.call(self._name, None, question.ask)
            if self._closed:
                return
            self._answers.append((question, answer))
            self._wake()
