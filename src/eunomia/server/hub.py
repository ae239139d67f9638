# SPDX-License-Identifier: BSD-2-Clause
"""The hub: one engine in a thread of its own, and the trackers that it runs, by id.

Any thread may call it. What loads an object does so in the calling thread, so the engine's never waits for the
verifier; changes of the engine are submitted to it.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import CancelledError, Future, wait
from contextlib import suppress
from functools import partial
from threading import Event, Lock, RLock, Thread, Timer
from typing import NamedTuple, TypeVar

import msgspec
from msgspec import UNSET

from eunomia import tracker as kinds
from eunomia.columns.joined import ACTOR, is_of
from eunomia.engine import Engine
from eunomia.engine.output import Output, Queue
from eunomia.engine.sources import RunningSource
from eunomia.engine.trial import TrialFailed
from eunomia.faults import Faults
from eunomia.filters import Filters as Wanted
from eunomia.filters import process_mask
from eunomia.kernel import settings
from eunomia.kernel.errors import BadSetting, KernelError
from eunomia.kernel.spec import Spec
from eunomia.server.journal import END, PAUSE, Journal
from eunomia.server.journal_sink import JournalSink, described
from eunomia.server.models import (
    Filters,
    Generation,
    Kind,
    Ledger,
    LogLine,
    OutputAccount,
    OutputRequest,
    ReaderAccount,
    SourceAccount,
    Tracker,
    TrackerPatch,
    TrackerRequest,
    UpdateRequest,
    Value,
)
from eunomia.server.objects import Objects, digest_of
from eunomia.server.opening import filters_of, options_of, source_of
from eunomia.server.problems import ApiError
from eunomia.sinks import Sink, StreamInfo, open_sink
from eunomia.sinks.writer import open_writer
from eunomia.source import Source

T = TypeVar("T")

MOST = 256  # trackers at a time
KEPT = 5  # generations of a tracker whose objects are kept
_LINGER = 60.0  # seconds for which a journal goes on after its last reader has left
_ENDED = 64  # trackers that have ended and are still shown
_LOGGED = 256  # lines of a tracker's log that are kept
_PAUSED = b'{"detail":"nobody read: rows were not kept until here"}\n'


def now() -> str:
    """Return the time, as the API writes it."""
    return iso(time.time())


def iso(seconds: float) -> str:
    """Return a time since the epoch, as the API writes it."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(seconds))


class Entry:
    """A tracker that the hub runs, or has run."""

    def __init__(self, id_: str, request: TrackerRequest, digest: str) -> None:
        self.id = id_
        self.request = request
        self.started = now()
        self.state = "starting"
        self.journal = Journal()
        self.history = [Generation(1, digest, self.started, "running", dict(request.settings))]
        self.requests = [request]  # by generation
        self.at = 0  # of the history: what runs
        self.timer: Timer | None = None
        self.stops = ""
        self.readers: dict[str, Callable[[], ReaderAccount]] = {}
        self.watched = False  # whether rows are written to the journal; the engine's thread sets it
        self.linger: Timer | None = None
        self.outputs: list[str] = []
        self.notes: list[str] = []
        self.log: deque[LogLine] = deque(maxlen=_LOGGED)
        self.on_trial = False  # whether an object is being replaced
        self.variant = ""
        self.infos: list[StreamInfo] = []
        self.tables: frozenset[str] = frozenset()
        self.busy = Lock()  # held while it is changed

    def say(self, kind: str, text: str) -> None:
        """Add a line to its log."""
        self.log.append(LogLine(now(), kind, text))

    @property
    def lives(self) -> bool:
        """Whether it starts or runs."""
        return self.state in {"starting", "running"}

    @property
    def current(self) -> Generation:
        """The object that runs."""
        return self.history[self.at]


class Replacing(NamedTuple):
    """A tracker's object that takes the place of another, until its trial is over."""

    entry: Entry
    source: Source
    request: TrackerRequest
    made: Generation
    trial: Future[list[str]]


class Hub:
    """Starts, changes and stops trackers. As a context manager it leaves nothing attached."""

    def __init__(
        self,
        objects: Objects,
        *,
        faults: Faults | None = None,
        interval: float = 1.0,
        most: int = MOST,
        kept: Callable[[Entry], None] = lambda _: None,
        forgotten: Callable[[Entry], None] = lambda _: None,
    ) -> None:
        """``interval`` is that of tables, in seconds, ``most`` the number of trackers that may run.

        ``kept`` is called with a tracker that has started or changed and is to run again after a restart, ``forgotten``
        with one that is not.
        """
        self.objects = objects
        self.faults = Faults() if faults is None else faults
        self.entries: dict[str, Entry] = {}
        self._engine = Engine(None, self.faults)
        self._interval = interval
        self._most = most
        self._kept, self._forgotten = kept, forgotten
        self._lock = RLock()
        self._ready = Event()
        self._thread: Thread | None = None
        self._error: BaseException | None = None
        self.failed: Callable[[], None] = lambda: None  # called when the engine has ended by itself

    def __enter__(self) -> Hub:
        self.start()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    # The engine's thread

    def start(self) -> None:
        """Start the engine's thread; raises what starting the engine raises."""
        self._thread = Thread(target=self._run, name="engine", daemon=True)
        self._thread.start()
        self._ready.wait()
        if self._error is not None:
            raise self._error

    def _run(self) -> None:
        try:
            self._engine.start()
            self._ready.set()
            self._engine.run(interval=self._interval, forever=True)
        except BaseException as error:  # the server ends, and says why
            self._error = error
            self._engine.refuse()
            self._ready.set()
            self.end_streams("failed", str(error))
            self.failed()

    def end_streams(self, state: str = "stopped", detail: str = "the server stops") -> None:
        """End what readers read; nothing follows."""
        for entry in list(self.entries.values()):
            if not entry.journal.ended:
                entry.say(state, detail)
                entry.journal.add(END, _ended(state, detail))

    @property
    def error(self) -> BaseException | None:
        """What ended the engine; None while it runs."""
        return self._error

    @property
    def engine(self) -> Engine:
        """The engine, for what reads its registry."""
        return self._engine

    def submit(self, command: Callable[[], T]) -> Future[T]:
        """Have the engine's thread call something; raises :class:`ApiError` if there is none any more."""
        try:
            return self._engine.submit(command)
        except RuntimeError:
            raise self._over_and_done() from None

    def do(self, command: Callable[[], T]) -> T:
        """Have the engine's thread call something, and return its result."""
        return self._result(self.submit(command))

    def _result(self, future: Future[T]) -> T:
        try:
            return future.result()
        except CancelledError:
            raise self._over_and_done() from None

    def _over_and_done(self) -> ApiError:
        return ApiError(503, f"the engine has ended: {self._error}" if self._error else "the server is stopping")

    def close(self) -> None:
        """Stop everything, and free it."""
        self._engine.stop()
        if self._thread is not None:
            self._thread.join()
        self._engine.close()
        for entry in list(self.entries.values()):
            for timer in (entry.timer, entry.linger):
                if timer is not None:
                    timer.cancel()
        self.end_streams()

    # Trackers

    def begin(self, request: TrackerRequest, past: Sequence[Generation] = (), at: int = 0) -> Entry:
        """Start a tracker; it is attached when this returns. Raises :class:`ApiError`.

        ``past`` is its history, if it ran before a restart, of which the generation at place ``at`` ran.
        """
        with self._lock:
            if sum(e.lives for e in self.entries.values()) >= self._most:
                raise ApiError(409, f"{self._most} trackers run, and no more can")
            id_ = request.id or self._free(request.kind or "object")
            there = self.entries.get(id_)
            if there is not None and there.lives:
                raise ApiError(409, f"there is a tracker {id_} already", field="id")
            entry = Entry(id_, msgspec.structs.replace(request, id=id_), "")
            if past:
                entry.history = [msgspec.structs.replace(g) for g in past]
                entry.at = at
                entry.requests = [self._request_of(entry.request, g) for g in past]
            self.entries[id_] = entry
        with entry.busy:
            try:
                self._attach(entry, request)
                entry.state = "running"
                if request.duration:
                    self._stop_after(entry, request.duration)
                self._keep(entry)
            except BaseException as error:
                with self._lock:
                    del self.entries[id_]
                    if there is not None:
                        self.entries[id_] = there
                entry.state = "failed"
                if not entry.journal.ended:
                    entry.journal.add(END, _ended("failed", str(error)))
                raise
        entry.say("started", f"{request.kind or request.object}, {entry.variant}".removesuffix(", "))
        for note in entry.notes:
            entry.say("note", note)
        self._forget_ended()
        return entry

    def _request_of(self, request: TrackerRequest, past: Generation) -> TrackerRequest:
        """Return the request of a generation that ran before a restart."""
        if past.object in self.objects:
            return msgspec.structs.replace(request, kind="", object=past.object, settings=past.settings)
        return msgspec.structs.replace(request, settings=past.settings)

    def _keep(self, entry: Entry) -> None:
        """Have a tracker run again after a restart; if that cannot be, it does not run now either."""
        try:
            self._kept(entry)
        except Exception as error:
            self.do(partial(self._engine.remove, entry.id))
            self._end(entry, "failed", str(error))
            raise ApiError(500, f"the state could not be kept: {error}") from None

    def _free(self, word: str) -> str:
        taken = {e.id for e in self.entries.values() if e.lives}
        return next(name for n in range(1, 10_000) if (name := word if n == 1 else f"{word}-{n}") not in taken)

    def _attach(self, entry: Entry, request: TrackerRequest) -> None:
        source = source_of(request, entry.id, self.objects.get)
        try:
            entry.current.object = _digest(request, source)
            entry.current.outcome = "running"
            options = options_of(request, source)
            wanted = filters_of(request.filters)
            _check_added(request)
            shown = [*request.add, *(column for one in request.outputs for column in one.columns)]
            if any(is_of(ACTOR, column) for column in shown):
                self.do(self._engine.follow_processes)  # before the tracker is attached
            try:
                running = self._engine.prepare(source, options)
            except KernelError as error:
                raise _refused(error) from None
        except BaseException:
            source.spec.close()
            raise
        try:
            _check_filters(running, wanted)
            self.do(lambda: self._engine.add(running))
        except BaseException:
            running.close()
            raise
        entry.notes = [*running.notes, *(f"{entry.id}: {sentence}" for sentence in source.left_out)]
        self._describe(entry, source)
        try:
            self._connect_files(entry, request.outputs, wanted)
        except BaseException:
            self.do(lambda: self._engine.remove(entry.id))
            raise

    def _describe(self, entry: Entry, source: Source) -> None:
        entry.variant = source.variant

        def read() -> tuple[list[StreamInfo], frozenset[str]]:
            streams = [s for one in self._engine.sources if one.name == entry.id for s in one.streams]
            return [s.info for s in streams], frozenset(s.key[1] for s in streams if s.is_table)

        entry.infos, entry.tables = self.do(read)

    def _connect_files(
        self, entry: Entry, outputs: Sequence[OutputRequest], wanted: Wanted, there: Mapping[str, str] = {}
    ) -> None:
        """Connect a tracker's outputs, but for those that are ``there``, names by file."""
        names: list[str] = []
        done: list[str] = []
        try:
            for number, one in enumerate(outputs):
                name = there.get(one.file) or f"{entry.id}:{one.format}:{one.file}"
                if name in names or any(one.file == other.file for other in outputs[:number]):
                    raise ApiError(422, f"{one.file} is there twice", field=f"outputs[{number}].file")
                names.append(name)
                if one.file not in there:
                    self.do(partial(self._connect, entry, one, name, number, wanted))
                    done.append(name)
        except BaseException:
            for name in done:
                with suppress(KeyError):
                    self.do(partial(self._engine.disconnect, name))
            raise
        entry.outputs = names

    def _connect(self, entry: Entry, one: OutputRequest, name: str, number: int, wanted: Wanted) -> None:
        def open_(streams: Sequence[StreamInfo]) -> Sink:
            ours = [s for s in streams if s.tracker == entry.id]
            return open_sink(one.format, open_writer(one.file, one.rotate), ours, one.columns or None)

        needs = any(is_of(ACTOR, column) for column in one.columns)
        output = Output(name, open_, wanted, streams=(entry.id,), queue=Queue(), processes=needs)
        try:
            self._engine.connect(output)
        except OSError as error:
            raise ApiError(422, f"{one.file}: {error.strerror}", field=f"outputs[{number}].file") from None
        except (ValueError, KernelError) as error:
            raise ApiError(422, str(error), field=f"outputs[{number}]") from None

    def get(self, id_: str) -> Entry:
        """Return a tracker; raises :class:`ApiError` if there is none."""
        entry = self.entries.get(id_)
        if entry is None:
            raise ApiError(404, f"there is no tracker {id_}")
        return entry

    def running(self, id_: str) -> Entry:
        """Return a tracker that runs; raises :class:`ApiError` if there is none."""
        entry = self.get(id_)
        _check_running(entry)
        return entry

    def stop(self, id_: str, why: str = "") -> Entry:
        """Stop a tracker: its remaining rows are passed on, its account stays. Raises :class:`ApiError`."""
        entry = self.running(id_)
        with entry.busy:
            if entry.state != "running":
                return entry
            self.do(lambda: self._engine.remove(id_))
            self._end(entry, "stopped", why)
            self._stop_after(entry, 0)
            self._forgotten(entry)
        return entry

    def _end(self, entry: Entry, state: str, detail: str) -> None:
        entry.state = state
        entry.current.outcome = state
        for name in entry.outputs:
            with suppress(KeyError):
                self.do(partial(self._engine.disconnect, name))
        self.do(lambda: self._leave(entry))
        entry.say(state, detail)
        entry.journal.add(END, _ended(state, detail))
        if not entry.readers:
            entry.journal.trim()

    def _stop_after(self, entry: Entry, seconds: float) -> None:
        if entry.timer is not None:
            entry.timer.cancel()
            entry.timer, entry.stops = None, ""
        if seconds:
            entry.timer = Timer(seconds, self._over, (entry,))
            entry.timer.daemon = True
            entry.stops = iso(time.time() + seconds)
            entry.timer.start()

    def _over(self, entry: Entry) -> None:
        with suppress(ApiError):
            if self.entries.get(entry.id) is entry:
                self.stop(entry.id, "its duration is over")

    def _forget_ended(self) -> None:
        with self._lock:
            ended = [e.id for e in self.entries.values() if not e.lives]
            for id_ in ended[:-_ENDED]:
                del self.entries[id_]

    def patch(self, id_: str, patch: TrackerPatch) -> Entry:
        """Change a tracker that runs: settings, then filters and outputs, then its duration.

        Raises :class:`ApiError`; what came before the part that failed has changed then.
        """
        entry = self.running(id_)
        with entry.busy:
            _check_running(entry)
            request = entry.request
            if patch.settings is not UNSET and patch.settings != request.settings:
                update = UpdateRequest(settings=patch.settings)
                self._settle(self._replace(entry, update, replaces_settings=True))
                request = entry.request
            if patch.filters is not UNSET or patch.outputs is not UNSET:
                filters = request.filters if patch.filters is UNSET else patch.filters
                outputs = request.outputs if patch.outputs is UNSET else patch.outputs
                self._reconnect(entry, outputs, filters)
                entry.request = msgspec.structs.replace(request, filters=filters, outputs=outputs)
                entry.say("changed", "filters or outputs")
            if patch.duration is not UNSET:
                self._stop_after(entry, patch.duration)
            self._kept(entry)
        return entry

    def _reconnect(self, entry: Entry, outputs: list[OutputRequest], filters: Filters) -> None:
        """Change filters in place, so that no row is missed; open new outputs, and close those that are gone."""
        wanted, before = filters_of(filters), filters_of(entry.request.filters)
        old = {one.file: (name, one) for name, one in zip(entry.outputs, entry.request.outputs, strict=True)}
        for number, one in enumerate(outputs):
            if one.file in old and old[one.file][1] != one:
                detail = f"{one.file} is written in another way: name another file"
                raise ApiError(422, detail, field=f"outputs[{number}].file")
        self._refilter(entry, wanted)
        kept = entry.outputs
        try:
            self._connect_files(entry, outputs, wanted, {file: name for file, (name, _) in old.items()})
        except BaseException:
            entry.outputs = kept
            self._refilter(entry, before)
            raise
        for name in kept:
            if name not in entry.outputs:
                with suppress(KeyError):
                    self.do(partial(self._engine.disconnect, name))

    def _refilter(self, entry: Entry, wanted: Wanted) -> None:
        names = {*entry.outputs, _journal_name(entry)}
        try:
            self.do(lambda: self._engine.refilter(names, wanted))
        except BadSetting as error:
            raise ApiError(422, str(error).replace("--", ""), field="filters") from None

    # Other objects in its place

    def update(self, id_: str, request: UpdateRequest) -> Entry:
        """Have a tracker run another object; raises :class:`ApiError`, and then the old one goes on."""
        return self.settle(self.replace(id_, request))

    def replace(self, id_: str, request: UpdateRequest) -> Replacing:
        """Have a tracker run another object; :meth:`settle` is to be called when the trial is over.

        Meanwhile the tracker can be read and stopped. Raises :class:`ApiError`, and then the old one goes on.
        """
        entry = self.running(id_)
        with entry.busy:
            _check_running(entry)
            return self._replace(entry, request)

    def settle(self, replacing: Replacing) -> Entry:
        """Wait for the end of a trial, and take its result; raises :class:`ApiError` if the old object goes on."""
        wait([replacing.trial])
        with replacing.entry.busy:
            self._settle(replacing)
            if replacing.entry.state == "running":
                self._kept(replacing.entry)
        return replacing.entry

    def rollback(self, id_: str, generation: int) -> Entry:
        """Have a tracker run the object of an earlier generation; raises :class:`ApiError`."""
        entry = self.running(id_)
        with entry.busy:
            _check_running(entry)
            numbers = [g.number for g in entry.history]  # the first ones are gone after a restart
            worked = [g.number for g in entry.history[: entry.at] if g.outcome != "failed"]
            number = generation or max(worked, default=0)
            if number not in numbers or number == entry.current.number:
                there = f"{', '.join(map(str, numbers))}, and {entry.current.number} runs"
                raise ApiError(422, f"there is no earlier generation {number}: there are {there}", field="generation")
            old = entry.requests[numbers.index(number)]
            self._settle(self._replace(entry, UpdateRequest(object=old.object, settings=old.settings), base=old))
            self._kept(entry)
        return entry

    def _replace(
        self,
        entry: Entry,
        update: UpdateRequest,
        *,
        base: TrackerRequest | None = None,
        replaces_settings: bool = False,
    ) -> Replacing:
        if entry.on_trial:
            raise ApiError(409, f"the object of {entry.id} is on trial, which has to end first")
        request = base or entry.request
        whole = base is not None or replaces_settings
        given: dict[str, Value] = update.settings if whole else {**request.settings, **update.settings}
        request = msgspec.structs.replace(request, settings=given)
        if update.object:
            request = msgspec.structs.replace(request, object=update.object, kind="")
        source = source_of(request, entry.id, self.objects.get)
        try:
            digest = _digest(request, source)
            options = options_of(request, source)
            future = self._engine.replace(entry.id, source, options, trial=update.trial, fresh_maps=update.fresh_maps)
        except KeyError:
            source.spec.close()
            raise ApiError(409, f"tracker {entry.id} does not run any more") from None
        except ValueError as error:
            source.spec.close()
            raise ApiError(409, str(error)) from None
        except KernelError as error:
            source.spec.close()
            raise _refused(error) from None
        except (RuntimeError, CancelledError):
            source.spec.close()
            raise self._over_and_done() from None
        except BaseException:
            source.spec.close()
            raise
        made = Generation(0, digest, now(), "on trial", dict(given))
        entry.on_trial = True
        return Replacing(entry, source, request, made, future)

    def _settle(self, replacing: Replacing) -> None:
        entry, source, request, made, trial = replacing
        entry.on_trial = False
        made.number = entry.history[-1].number + 1
        entry.history.append(made)
        entry.requests.append(request)
        try:
            sentences = self._result(trial)
        except TrialFailed as failed:
            made.outcome, made.detail = "failed", str(failed)
            entry.say("failed", f"generation {made.number}: {failed}; the old object goes on")
            raise ApiError(409, f"{failed}: the old object goes on") from None
        entry.current.outcome = "replaced"
        made.outcome, made.detail = entry.state, " ".join(sentences)
        entry.at = len(entry.history) - 1
        entry.say("updated", f"generation {made.number}: {made.object}" + (f": {made.detail}" if made.detail else ""))
        entry.request = msgspec.structs.replace(request, filters=entry.request.filters, outputs=entry.request.outputs)
        if entry.state == "running":
            self._describe(entry, source)

    # Readers of a tracker's rows

    # Whether they are kept is known to the engine's thread alone, so that nobody waits for anybody.

    def watch(self, entry: Entry) -> Future[None]:
        """Have rows written to a tracker's journal: somebody reads it."""
        return self.submit(lambda: self._watch(entry))

    def _watch(self, entry: Entry) -> None:
        if entry.linger is not None:
            entry.linger.cancel()
            entry.linger = None
        if entry.watched or entry.state != "running":
            return
        added = entry.request.add

        def open_(streams: Sequence[StreamInfo]) -> Sink:
            return JournalSink(entry.journal, entry.id, streams, added, entry.tables)

        wanted = filters_of(entry.request.filters)
        needs = any(is_of(ACTOR, column) for column in added)
        self._engine.connect(Output(_journal_name(entry), open_, wanted, streams=(entry.id,), processes=needs))
        entry.watched = True

    def unwatch(self, entry: Entry) -> None:
        """Have no more rows written to a journal that nobody reads, after a while in which readers may come back."""
        if entry.journal.ended and not entry.readers:
            entry.journal.trim()
        with suppress(ApiError):
            self.submit(lambda: self._unwatch(entry))

    def _unwatch(self, entry: Entry) -> None:
        if entry.watched and not entry.readers and entry.linger is None:
            entry.linger = Timer(_LINGER, self._lingered, (entry,))
            entry.linger.daemon = True
            entry.linger.start()

    def _lingered(self, entry: Entry) -> None:
        def leave() -> None:
            if entry.linger is not None and not entry.readers:
                self._leave(entry)
                entry.journal.add(PAUSE, _PAUSED)

        with suppress(ApiError):
            self.submit(leave)

    def _leave(self, entry: Entry) -> None:
        if entry.linger is not None:
            entry.linger.cancel()
            entry.linger = None
        if entry.watched:
            entry.watched = False
            self._engine.disconnect(_journal_name(entry))

    @property
    def interval(self) -> float:
        """How often tables are read, in seconds."""
        return self._interval

    # Answers

    def shown(self, entry: Entry) -> Tracker:
        """Return a tracker as the API shows it."""
        return Tracker(
            entry.id, entry.request.kind, entry.state, entry.current.object, entry.current.number, entry.started,
            entry.request, entry.variant, entry.stops, described(entry.infos, entry.tables), entry.notes,
            len(entry.readers),
        )  # fmt: skip

    def ledger(self, id_: str = "") -> Ledger:
        """Return the accounts of a tracker, or of all."""

        def ours(label: str) -> bool:
            return not id_ or label.partition("/")[0] == id_

        sources, outputs = self.do(lambda: (self._engine.ledger(), self._engine.accounts()))
        readers = [read() for e in list(self.entries.values()) if ours(e.id) for read in list(e.readers.values())]
        return Ledger(
            [
                SourceAccount(e.stream, e.emitted, e.lost, e.filtered, e.events.shown if e.events else None)
                for e in sources
                if ours(e.stream)
            ],
            [
                OutputAccount(e.output, e.stream, e.received, e.filtered, e.delivered, dict(e.dropped), e.waiting)
                for e in outputs
                if ours(e.stream)
            ],
            readers,
        )


def kinds_known() -> list[Kind]:
    """Return the trackers that can be started by name."""
    found = []
    for one in kinds.every():
        if one.broken:
            continue
        spec = Spec.open(one.object, quick=one.quick, derived=one.tracker.derived)
        spec.close()
        can, maps = _options_known(spec)
        found.append(Kind(one.name, one.tracker.title, list(spec.streams), can, maps))
    return found


def _digest(request: TrackerRequest, source: Source) -> str:
    """Return the digest of the object that a request names; of a tracker's, that of its file."""
    if source.found is None:
        return request.object
    with open(source.found.object, "rb") as file:
        return digest_of(file.read())


def _check_running(entry: Entry) -> None:
    """Raise :class:`ApiError` unless a tracker runs."""
    if entry.state != "running":
        raise ApiError(409, f"tracker {entry.id} is {entry.state}")


def _options_known(spec: Spec) -> tuple[dict[str, str], list[str]]:
    """Return an object's settings with their types, and its maps."""
    can = {s.name: s.ctype for s in settings.listed(spec.settings, {})}
    can |= {f"{name}[KEY]": table.types for name, table in spec.tables.items()}
    return can, [m.name for m in spec.maps.values() if not m.internal]


def _journal_name(entry: Entry) -> str:
    return f"{entry.id}:journal"


def _check_filters(running: RunningSource, wanted: Wanted) -> None:
    """Raise :class:`ApiError` if records lack a field that a filter needs."""
    for stream in running.streams:
        for schema in stream.schemas:
            try:
                process_mask(wanted, schema, stream.label)
            except BadSetting as error:
                raise ApiError(422, str(error).replace("--", ""), field="filters") from None


def _ended(state: str, detail: str) -> bytes:
    return msgspec.json.encode({"state": state, "detail": detail}) + b"\n"


def _check_added(request: TrackerRequest) -> None:
    from eunomia.columns.joined import joined, members

    for name in request.add:
        if not (members(name) or joined(name)):
            raise ApiError(422, f"there is no column {name!r} to add", field="add")


def _refused(error: Exception) -> ApiError:
    return ApiError(422, str(error), field="object", kind="about:blank")
