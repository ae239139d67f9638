# SPDX-License-Identifier: BSD-2-Clause
"""Worker thread that answers questions to one runtime, one after another."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Hashable

from eunomia.faults import Faults
from eunomia.typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from threading import Thread

_CLOSING = 0.2  # seconds to wait for the thread's end; a blocked one is left behind


class _Question(NamedTuple):
    key: Hashable
    ask: Callable[[], Any]
    apply: Callable[[Any], None]


class Worker:
    """Takes questions with keys, one at a time for each key; the caller collects the answers.

    ``late`` says that waiting for an answer has timed out. The first question starts the thread, a daemon thread.
    """

    def __init__(self, name: str, wake: Callable[[], None], faults: Faults) -> None:
        """``name`` is shown in errors; ``wake`` is called from the thread when there is an answer."""
        from threading import Condition

        self._name = name
        self._wake = wake
        self._faults = faults
        self._changed = Condition()
        self._todo: deque[_Question] = deque()
        self._answers: deque[tuple[_Question, Any]] = deque()
        self._open: dict[Hashable, bool] = {}  # keys of open questions, and whether to ask again
        self._thread: Thread | None = None
        self._closed = False
        self.late = False

    @property
    def busy(self) -> bool:
        """Whether there are questions whose answers were not applied."""
        return bool(self._open)

    def is_asked(self, key: Hashable) -> bool:
        """Whether a question with this key is open."""
        return key in self._open

    def ask(self, key: Hashable, ask: Callable[[], Any], apply: Callable[[Any], None], again: bool = False) -> None:
        """Call ``ask`` in the thread; :meth:`apply_answers` passes its result to ``apply``.

        Does nothing if a question with this key is open; with ``again`` it is asked once more after that, because the
        answer may be older than the reason to ask.
        """
        if key in self._open:
            self._open[key] |= again
            return
        self._open[key] = False
        with self._changed:
            self._todo.append(_Question(key, ask, apply))
            self._changed.notify()
        if self._thread is None and not self._closed:
            from threading import Thread

            self._thread = Thread(target=self._run, name=f"eunomia {self._name}", daemon=True)
            self._thread.start()

    def apply_answers(self) -> int:
        """Apply the answers on the calling thread; return how many there were."""
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
        """Let the thread end; a blocked one ends when its question returns."""
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
