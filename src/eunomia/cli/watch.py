# SPDX-License-Identifier: BSD-2-Clause
"""``eunomia run --watch``: an object is reloaded when its file changes."""

from __future__ import annotations

import os
import stat
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import CancelledError

from eunomia.cli.changed_files import ChangedFiles
from eunomia.cli.errors import say
from eunomia.engine.trial import TrialFailed
from eunomia.kernel.errors import MapChanged
from eunomia.typing import TYPE_CHECKING

if TYPE_CHECKING:
    from eunomia.engine import Engine
    from eunomia.source import Source


class Watched:
    """A source that follows its file: ``reopen`` reads it again, ``said`` are sentences that users know already."""

    def __init__(self, source: Source, path: str, reopen: Callable[[], Source]) -> None:
        self.name = source.name
        self.path = path
        self.reopen = reopen
        self.data = source.spec.data
        self.columns = _columns(source)
        self.said = set(_sentences(source))
        self.is_gone = False


class Watch:
    """A thread that replaces sources whose files changed, from :meth:`start` until the context ends."""

    def __init__(self, watched: Sequence[Watched], trial: float, fresh_maps: bool, *, has_csv: bool = False) -> None:
        """Look at the files from now on; ``trial`` is in seconds. ``has_csv`` says that rows are written as CSV."""
        self._watched = {one.name: one for one in watched}
        self._trial = trial
        self._fresh_maps = fresh_maps
        self._has_csv = has_csv
        self._files = ChangedFiles({one.name: one.path for one in watched})
        self._thread: threading.Thread | None = None
        self._engine: Engine | None = None
        self._is_over = False

    def start(self, engine: Engine) -> None:
        """Begin, now that the engine runs."""
        self._engine = engine
        self._thread = threading.Thread(target=self._run, name="watch", daemon=True)
        self._thread.start()

    def __enter__(self) -> Watch:
        return self

    def __exit__(self, *exc_info: object) -> None:
        """Let go of the files; after the engine was closed, so that nothing is under way."""
        self._is_over = True
        self._files.stop()
        if self._thread is not None:
            self._thread.join()
        self._files.close()

    def _run(self) -> None:
        while names := self._files.wait():
            for name in names:
                self._look_at(self._watched[name])

    def _look_at(self, watched: Watched) -> None:
        """Reload an object, if it is another than the one that runs."""
        try:
            same = _holds(watched.path, watched.data)
        except FileNotFoundError:
            say(f"{watched.name}: {watched.path} is gone: what runs goes on")
            watched.is_gone = True
            return
        except OSError:
            same = False  # reopen() says what is the matter
        if same:
            if watched.is_gone:
                say(f"{watched.name}: {watched.path} is back as it was")
            watched.is_gone = False
            return
        watched.is_gone = False
        try:
            self._reload(watched, watched.reopen())
        except CancelledError:
            pass  # the engine was closed
        except Exception as error:  # whatever it is, the old one goes on
            if not self._is_over:
                hint = "; with --fresh-maps such maps start empty" if isinstance(error, MapChanged) else ""
                say(f"{watched.name}: not reloaded: {_one_line(error)}{hint}; the old one goes on")

    def _reload(self, watched: Watched, source: Source) -> None:
        assert self._engine is not None
        try:
            future = self._engine.replace(watched.name, source, trial=self._trial, fresh_maps=self._fresh_maps)
        finally:
            source.spec.close()
        said = _sentences(source)
        columns = _columns(source)
        told = changes(watched.columns, columns)
        if told and self._has_csv:
            told.append("csv keeps the columns of its header")
        told += [sentence for sentence in said if sentence not in watched.said]
        say("; ".join([f"{watched.name}: reloaded {watched.path}", *told]))
        before = watched.data, watched.columns, watched.said
        watched.data, watched.columns, watched.said = source.spec.data, columns, watched.said | set(said)
        try:
            for sentence in future.result():
                say(f"{watched.name}: {sentence}")
        except TrialFailed as error:
            say(f"{error}; the old one runs again")
            watched.data, watched.columns, watched.said = before


def _holds(path: str, data: bytes) -> bool:
    """Whether a file has just these bytes; raises :class:`OSError`."""
    with open(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC), "rb") as file:  # a pipe, maybe
        about = os.fstat(file.fileno())
        return stat.S_ISREG(about.st_mode) and about.st_size == len(data) and file.read() == data


def _one_line(error: Exception) -> str:
    return str(error) or type(error).__name__


def _columns(source: Source) -> dict[str, list[str]]:
    return {name: list(stream.schema.fields) for name, stream in source.spec.streams.items()}


def _sentences(source: Source) -> list[str]:
    return [*source.left_out, *(f"{s.name}: {s.hint}" for s in source.spec.streams.values() if s.hint)]


def changes(before: Mapping[str, Iterable[str]], after: Mapping[str, Iterable[str]]) -> list[str]:
    """Return sentences on streams and columns that are new or gone."""
    told = [f"no more stream {name}" for name in before if name not in after]
    told += [f"stream {name} is new" for name in after if name not in before]
    for name in before.keys() & after.keys():
        were, are = list(before[name]), list(after[name])
        news = [f"{column} is new" for column in are if column not in were]
        news += [f"no more {column}" for column in were if column not in are]
        if news:
            told.append(f"{name}: {', '.join(news)}")
    return told
