# SPDX-License-Identifier: BSD-2-Clause
"""The engine: sources and outputs that come and go, and the one loop between them.

One thread owns it: the one that calls :meth:`Engine.run`. Others use :meth:`Engine.submit`. It handles no signals,
prints nothing and changes no settings of Python; its caller does.
"""

from __future__ import annotations

from _thread import allocate_lock
from collections.abc import Callable, Collection, Iterable

from eunomia.engine.commands import Commands
from eunomia.engine.joins import Joins
from eunomia.engine.kernel_filter import KernelFilter
from eunomia.engine.pace import IDLE, IGNORED_IDLE, UNWRITTEN, Pace, until
from eunomia.engine.pulse import Pulse
from eunomia.engine.sources import ProbeSource, RunningSource
from eunomia.engine.step import Step
from eunomia.faults import Faults
from eunomia.filters import process_mask
from eunomia.kernel.coalesced import CoalescedReader
from eunomia.kernel.errors import KernelError
from eunomia.kernel.libbpf import lib
from eunomia.kernel.wait import Waiter
from eunomia.kernel_clock import monotonic_ns
from eunomia.ledger import Events, OutputEntry, Remark, SourceEntry
from eunomia.source import Options, Source
from eunomia.typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from concurrent.futures import Future

    from eunomia.cgroup_hierarchy import Hierarchy
    from eunomia.containers.registry import Registry
    from eunomia.engine.joins import Follows
    from eunomia.engine.output import Output
    from eunomia.engine.stream import Stream
    from eunomia.engine.trial import Trial
    from eunomia.filters import Filters
    from eunomia.sinks import StreamInfo

T = TypeVar("T")

_REMEMBERED = 1024  # accounts of removed streams and of disconnected outputs


class Engine:
    """Runs sources, and passes their rows to outputs. As a context manager it leaves nothing attached.

    Sources and outputs that are added before :meth:`start` begin with it, later ones immediately.
    """

    def __init__(
        self,
        enricher: Follows | None = None,
        faults: Faults | None = None,
        *,
        ring_size: int | None = None,
    ) -> None:
        """Load nothing yet.

        ``faults`` counts and reports failures in reading untrusted data. ``ring_size`` is the size of rings of rows
        that users set, in bytes, from which that of processes is derived.
        """
        self.faults = Faults() if faults is None else faults
        self.sources: list[RunningSource] = []
        self.outputs: list[Output] = []
        self._pace = Pace()
        self._joins = Joins(self.faults, enricher)
        self._filter = KernelFilter()
        self._step = Step(self._joins, self._pace, self.outputs, self.faults)
        self._commands = Commands()
        self._ring_size = ring_size
        self._first: list[tuple[Source | RunningSource, Options]] = []  # to be added by start()
        self._hierarchy: Hierarchy | None = None
        self._waiter: Waiter | None = None
        self._ended: list[SourceEntry] = []
        self._loading = allocate_lock()  # held while an object is loaded, for what is kept of the kernel's BTF
        self._trials: dict[str, Trial] = {}  # by the source's name
        self._pulse = Pulse()
        self._disconnected: list[OutputEntry] = []
        self._stopping = False

    def __enter__(self) -> Engine:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    @property
    def registry(self) -> Registry | None:
        """The registry of containers; None before :meth:`start`."""
        return self._joins.registry

    @property
    def notes(self) -> list[str]:
        """Notes for users on how its sources were loaded."""
        return [note for source in self.sources for note in source.notes]

    # Start

    def start(self, loaded: Callable[[], None] | None = None) -> None:
        """Load and attach everything: from here on the rings record events.

        ``loaded`` is called when the sources run, before the outputs' sinks are made. Raises what
        loading raises, and what making the sinks raises.
        """
        from eunomia.containers import cgroup_files

        self._commands.own()
        self._hierarchy = cgroup_files.current()
        self._filter.want([(o.filters, o.selection) for o in self.outputs])
        self._joins.start(self._hierarchy, dict(self._filter.constants()))
        assert self._joins.cgroups is not None
        self._filter.start(self._joins.cgroups)
        if any(output.processes for output in self.outputs):
            # attached before trackers on the same hooks, so that it sees events first
            self._joins.follow_processes(self._hierarchy, self._ring_size)
        waiting, self._first = self._first, []
        # a deriver must exist before containers are learnt of, and its source must be loaded before it
        derives = any(isinstance(s, Source) and s.found is not None and s.found.tracker.derive for s, _ in waiting)
        for source, options in waiting:
            self._load(source, options, meanwhile=None if derives else self._learn_containers)
        lib.eu_forget_kernel_btf()
        self._waiter = Waiter()
        for live in [*self._joins.objects, *(s.live for s in self.sources if s.live is not None)]:
            self._waiter.take(live)
        self._waiter.add(self._commands.descriptor)
        self._follow_containers()
        if loaded is not None:
            loaded()
        self._plan()
        for output in self.outputs:
            output.open(self.infos(), self.faults)

    def _learn_containers(self) -> None:
        """Learn of the containers that run, now that records of cgroups are kept; once."""
        if self._joins.registry is None:
            registry = self._joins.prepare()
            self._filter.follow_containers(registry)
            for source in self._deriving:
                source.derive(registry)
            self._joins.follow_containers()

    def _follow_containers(self) -> None:
        assert self._waiter is not None
        self._learn_containers()
        for descriptor in self._joins.descriptors:
            self._waiter.add(descriptor)
        for source in self._deriving:
            self._step.start(source)

    @property
    def _deriving(self) -> list[ProbeSource]:
        return [s for s in self.sources if isinstance(s, ProbeSource) and s.derives]

    def infos(self) -> list[StreamInfo]:
        """Return the streams' descriptions for sinks."""
        return [stream.info for source in self.sources for stream in source.streams]

    # Sources come and go

    def add(self, source: Source | RunningSource, options: Options | None = None) -> None:
        """Run a source from now on, or from :meth:`start` on.

        Raises :class:`ValueError` if one of this name runs, and what :meth:`Source.load` raises: then nothing of
        it is left.
        """
        if source.name in {s.name for s in [*self.sources, *(s for s, _ in self._first)]}:
            raise ValueError(f"there is a source {source.name!r} already")
        if self._waiter is None:
            self._first.append((source, options or Options()))
            return
        added = self._load(source, options or Options())
        try:
            if isinstance(added, ProbeSource) and added.derives:
                assert self.registry is not None
                added.derive(self.registry)
                self._step.start(added)
            self._plan()
        except BaseException:
            self._take_out(added)
            raise
        if added.live is not None:
            self._waiter.take(added.live)

    def prepare(self, source: Source, options: Options | None = None) -> RunningSource:
        """Load and attach a source in the calling thread, for :meth:`add`; the engine goes on meanwhile.

        Its rows wait until it is added; one that is not added must be closed. Only while the engine runs. Raises what
        :meth:`Source.load` raises.
        """
        return self._probes(source, options or Options())

    def _load(
        self,
        source: Source | RunningSource,
        options: Options,
        meanwhile: Callable[[], None] | None = None,
    ) -> RunningSource:
        if isinstance(source, Source):
            source = self._probes(source, options, meanwhile=meanwhile)
        if isinstance(source, ProbeSource):
            source.follow_filter()
        else:
            source.wake = self._commands.wake
        self.sources.append(source)
        return source

    def _probes(
        self,
        source: Source,
        options: Options,
        *,
        before: ProbeSource | None = None,
        fresh_maps: bool = False,
        meanwhile: Callable[[], None] | None = None,
    ) -> ProbeSource:
        assert self._hierarchy is not None
        assert self._joins.cgroups is not None
        share = {"eunomia_cgroups": self._joins.cgroups.maps["eunomia_cgroups"].fd}
        with self._loading:
            try:
                return ProbeSource(
                    source, options, self._hierarchy, self._filter,
                    share=share, before=before, fresh_maps=fresh_maps, meanwhile=meanwhile,
                )  # fmt: skip
            finally:
                if self._waiter is not None:
                    lib.eu_forget_kernel_btf()

    def remove(self, name: str) -> None:
        """Detach a source, pass on its remaining rows, and free it; its account stays in :meth:`ledger`.

        Raises :class:`KeyError` if there is none of this name.
        """
        source = self._named(name)
        if (trial := self._trials.get(name)) is not None:
            self._accept(trial)
        source.detach()
        self._step(self.sources, ending=[source])
        self._end(_entry(stream) for stream in source.streams)
        self._drop(source)

    def _end(self, entries: Iterable[SourceEntry]) -> None:
        self._ended += entries
        del self._ended[:-_REMEMBERED]

    def replace(
        self,
        name: str,
        source: Source,
        options: Options | None = None,
        *,
        trial: float = 0.0,
        fresh_maps: bool = False,
    ) -> Future[list[str]]:
        """Run another object in a source's place: same name, same account, the streams of the new one.

        Any thread may ask. The new object is loaded in that thread, beside the old one, and goes on with its maps
        (:mod:`eunomia.kernel.reuse`). Its programs then take the place of the old ones by one store each, so that no
        event is seen by both, or by neither. Until ``trial`` seconds are over (60 at most) the old one stays loaded,
        and runs again if the new one fails, or emits nothing although the old one did in as long a time before.

        The future is done when the trial is over; with no trial it is when this returns. It has sentences on what
        could be done in no other way than by attaching programs beside the old ones; or raises :class:`TrialFailed`.
        Equal events are counted as before, whatever the options say.

        Raises :class:`KeyError` if there is none of this name, :class:`ValueError` for one without probes or on
        trial, :class:`MapChanged` for a map that differs and may not be one of ``fresh_maps``, and what
        :meth:`Source.load` raises: then the old one goes on unchanged.
        """
        from eunomia.engine.trial import LONGEST, Trial

        if not 0 <= trial <= LONGEST:
            raise ValueError(f"a trial takes from 0 to {LONGEST} seconds")
        old = self._replaceable(name)
        source.name = name
        with old.in_use:
            if old.is_closed:
                raise KeyError(name)
            wanted = (options or old.options)._replace(coalesce=old.options.coalesce)
            new = self._probes(source, wanted, before=old, fresh_maps=fresh_maps)
        try:
            made = Trial(old, new, trial)
            self.submit(lambda: self._swap(made)).result()
        except BaseException:
            new.close()
            raise
        return made.future

    def _replaceable(self, name: str) -> ProbeSource:
        source = self._named(name)
        if not isinstance(source, ProbeSource):
            raise ValueError(f"source {name!r} has no probes that could be replaced")
        if name in self._trials:
            raise ValueError(f"source {name!r} is on trial, which has to end first")
        return source

    def _swap(self, trial: Trial) -> None:
        """Let a new object run in an old one's place; raises, and then the old one goes on."""
        if self._replaceable(trial.name) is not trial.old:
            raise ValueError(f"source {trial.name!r} was replaced meanwhile")
        self._check(trial.new)
        trial.new.follow_filter()
        past = self._pulse.since(trial.old.streams, trial.seconds)
        kept = {stream.key for stream in trial.new.streams if stream.map in trial.maps}
        trial.handover.swap(settle=not kept.issuperset(stream.key for stream in trial.old.streams))
        trial.orphans = self._take_over(trial.old, trial.new, trial.maps)
        trial.begin(past, self.faults)
        self._trials[trial.name] = trial
        if not trial.seconds:
            self._accept(trial)

    def _check(self, source: ProbeSource) -> None:
        """Raise :class:`BadSetting` if its records lack fields that outputs' filters need."""
        for output in self.outputs:
            for stream in source.streams:
                if output.takes(stream):
                    try:
                        output.plan(stream, filtered=False)
                    finally:
                        output.forget(stream)

    def _take_over(self, old: ProbeSource, new: ProbeSource, maps: frozenset[str]) -> list[SourceEntry]:
        """Read what the old programs have written, and go on with the new source in place of the old.

        Return the accounts of streams that the new one does not have.
        """
        assert self._waiter is not None
        kept = {stream.key for stream in new.streams if stream.map in maps}
        self._step(self.sources, ending=[old], kept=[stream for stream in old.streams if stream.key in kept])
        orphans = [_entry(stream) for stream in new.inherit(old, maps)]
        for output in self.outputs:
            for stream in old.streams:
                output.forget(stream)
        assert old.live is not None
        assert new.live is not None
        self._waiter.drop(old.live)
        self._waiter.take(new.live)
        self.sources[self.sources.index(old)] = new
        if new.derives:
            assert self.registry is not None
            old.stop_deriving()
            new.derive(self.registry)
            self._step.start(new)
        self._plan()
        if [stream.columns for stream in old.streams] != [stream.columns for stream in new.streams]:
            for output in self.outputs:
                output.adapt(self.infos())
        return orphans

    def _judge(self) -> None:
        """End the trials that are over."""
        for trial in list(self._trials.values()):
            verdict = trial.verdict(self.faults)
            if verdict is None:
                continue
            if verdict:
                self._go_back(trial, verdict)
            else:
                self._accept(trial)

    def _accept(self, trial: Trial) -> None:
        del self._trials[trial.name]
        self._end(trial.orphans)
        trial.old.close()
        trial.end(None)

    def _go_back(self, trial: Trial, why: str) -> None:
        """Have the old object run again."""
        from eunomia.engine.trial import TrialFailed

        del self._trials[trial.name]
        try:
            trial.handover.back()
        except KernelError as failed:
            why = f"{why}; of the old one not all could be attached again: {failed}"
        self._end(self._take_over(trial.new, trial.old, trial.maps))
        trial.new.close()
        trial.end(TrialFailed(f"{trial.name}: {why}"))

    def _named(self, name: str) -> RunningSource:
        for source in self.sources:
            if source.name == name:
                return source
        raise KeyError(name)

    def _drop(self, source: RunningSource) -> None:
        if source.live is not None and self._waiter is not None:
            self._waiter.drop(source.live)
        self._take_out(source)

    def _take_out(self, source: RunningSource) -> None:
        self.sources.remove(source)
        for output in self.outputs:
            for stream in source.streams:
                output.forget(stream)
        source.close()

    # Outputs come and go

    def connect(self, output: Output) -> None:
        """Pass rows to an output from now on, or from :meth:`start` on, and update the kernel's filters.

        Raises :class:`ValueError` if one of this name is connected, :class:`BadSetting` if streams lack fields that
        its filters need, and what making its sink raises: then nothing has changed.
        """
        if output.name in {o.name for o in self.outputs}:
            raise ValueError(f"there is an output {output.name!r} already")
        if self._waiter is None:
            self.outputs.append(output)
            return
        self._filter.check([o.filters for o in [*self.outputs, output]])
        if output.processes:
            self.follow_processes()
        output.open(self.infos(), self.faults)  # before the kernel lets more pass for it
        self.outputs.append(output)
        try:
            self._want()
        except BaseException:
            self.outputs.remove(output)
            output.close()
            self._want()
            raise

    def disconnect(self, name: str) -> None:
        """Pass no more rows to an output, and close it; its account stays in :meth:`accounts`.

        Raises :class:`KeyError` if there is none of this name.
        """
        output = next((o for o in self.outputs if o.name == name), None)
        if output is None:
            raise KeyError(name)
        self.outputs.remove(output)
        output.close()
        self._disconnected += output.account()
        del self._disconnected[:-_REMEMBERED]
        if self._waiter is not None:
            self._want()

    def refilter(self, names: Collection[str], filters: Filters) -> None:
        """Have the outputs of these names take other rows from now on, and update the kernel's filters.

        Raises :class:`BadSetting` if streams lack fields that the filters need, or there are too many for the
        kernel: then nothing has changed.
        """
        changed = [output for output in self.outputs if output.name in names]
        self._filter.check([filters if output in changed else output.filters for output in self.outputs])
        before = [(output, output.filters) for output in changed]
        try:
            for output in changed:
                output.want(filters)
            self._want()
        except BaseException:
            for output, old in before:
                output.want(old)
            self._want()
            raise

    def _want(self) -> None:
        self._filter.want([(o.filters, o.selection) for o in self.outputs])
        self._plan()

    def follow_processes(self) -> None:
        """Keep the table of processes from now on, in a running engine.

        Do so before a source is added whose rows will show processes: what is attached before the table sees an exec
        before the table does, so its rows would show the program that the process ran before.
        """
        assert self._hierarchy is not None
        assert self._waiter is not None
        before = len(self._joins.objects)
        self._joins.follow_processes(self._hierarchy, self._ring_size)
        for live in self._joins.objects[before:]:
            self._waiter.take(live)

    def _plan(self) -> None:
        """Decide where each stream's rows are filtered: in the kernel, before the join, or by each output."""
        union = self._filter.filters
        for source in self.sources:
            is_filtered = source.is_filtered
            for stream in source.streams:
                if source.passes_all:
                    masks = {id(s): process_mask(union, s, stream.label) for s in stream.schemas}
                    stream.early = {key: mask for key, mask in masks.items() if mask is not None}
                takers = [output for output in self.outputs if output.takes(stream)]
                stream.takers = len(takers)
                for output in takers:
                    output.plan(stream, filtered=is_filtered and output.filters.by_process == union)

    # The loop

    def submit(self, command: Callable[[], T]) -> Future[T]:
        """Have the engine's thread call ``command`` between two steps; any thread may submit.

        The future has its result or exception. Raises :class:`RuntimeError` if the engine is closed.
        """
        return self._commands.submit(command)

    def refuse(self) -> None:
        """Refuse commands from now on, and cancel those that wait: nobody runs them any more."""
        self._commands.close()

    def step(self, tables: bool = False) -> bool:
        """Run submitted commands, then drain, join and pass on; return whether there were rows.

        With ``tables``, tables are read too.
        """
        if self._commands.pending:
            self._commands.run()
        try:
            found = self._step(self.sources, tables=tables)
        except KernelError as error:
            trial = self._trials.get(self._step.reading.key[0]) if self._step.reading is not None else None
            if trial is None:
                raise
            self._go_back(trial, str(error))
            return True
        self._pulse.note(self.sources, found)
        if self._trials:
            self._judge()
        return found

    def stop(self) -> None:
        """Let :meth:`run` end; any thread may call it, and a signal handler."""
        self._stopping = True
        self._commands.wake()

    def run(self, duration: float | None = None, interval: float = 1.0, *, forever: bool = False) -> None:
        """Step until :meth:`stop`, the end of the duration, or until no output takes more rows.

        ``duration`` and ``interval``, at which tables are read, are seconds. With ``forever`` it also goes on
        without outputs.
        """
        assert self._waiter is not None
        self._commands.own()
        start = monotonic_ns()
        end = None if duration is None else start + int(duration * 1e9)
        every = int(interval * 1e9)
        due = start + every
        while not self._over(forever):
            now = monotonic_ns()
            if end is not None and now >= end:
                break
            tables = any(stream.is_table for source in self.sources for stream in source.streams)
            read_tables = tables and now >= due
            if now >= due:
                due += (now - due) // every * every + every
            found = self.step(read_tables)
            if not self._over(forever):
                self._rest(found, [t for t in (end, due if tables else None) if t is not None])
        self.finish(tables=True)

    def _over(self, forever: bool) -> bool:
        if self._stopping:
            return True
        return not forever and bool(self.outputs) and all(output.over for output in self.outputs)

    def _rest(self, found: bool, deadlines: list[int]) -> None:
        """Sleep: briefly while rows come, so that batches form; else until a probe wakes us."""
        assert self._waiter is not None
        pace, streams = self._pace, [stream for source in self.sources for stream in source.streams]
        pace.hurry()
        if self._commands.pending or any(stream.reader.waiting for stream in streams):
            return
        if found:  # other deadlines can wait for the end of the pause
            self._waiter.sleep(until(deadlines, monotonic_ns(), pace.pause()))
            return
        due = [self._joins.next_deadline(), self._step.held.next_deadline()]
        due += [trial.until for trial in self._trials.values()]
        due += [
            self.faults.call(f"tracker {s.name}", None, s.deriver.next_deadline)
            for s in self.sources
            if s.deriver is not None
        ]
        due += [s.reader.next_deadline() for s in streams if isinstance(s.reader, CoalescedReader)]
        deadlines += [t for t in due if t is not None]
        most = UNWRITTEN if any(output.waits for output in self.outputs) else IDLE
        pace.rest()
        if any(source.live is not None and source.live.ignores_rings for source in self.sources):
            most = min(most, IGNORED_IDLE)
        self._waiter.wait(until(deadlines, monotonic_ns(), most))

    def finish(self, tables: bool = False) -> None:
        """Detach, pass on the remaining rows, and close the outputs; then the accounts are final."""
        for trial in list(self._trials.values()):
            self._accept(trial)
        for source in self.sources:
            source.detach()
        self._step(self.sources, tables=tables, ending=self.sources)
        for output in self.outputs:
            output.close()

    # Accounts and remarks

    def ledger(self) -> list[SourceEntry]:
        """Return the account of each stream, also of removed sources, the latest of these last."""
        return [_entry(stream) for source in self.sources for stream in source.streams] + self._ended

    def accounts(self) -> list[OutputEntry]:
        """Return each output's account for each stream, also of disconnected outputs."""
        return [entry for output in self.outputs for entry in output.account()] + self._disconnected

    def remarks(self) -> list[Remark]:
        """Return other remarks on the run, for its end."""
        return self._joins.remarks() + [
            Remark(f"{reader} failed", f"{count} times by {kind}", {"failures": count})
            for (reader, kind), count in sorted(self.faults.counts.items())
        ]

    def close(self) -> None:
        """Detach and free everything."""
        self._commands.close()
        for output in self.outputs:
            output.close()
        if self._waiter is not None:
            self._waiter.close()
            self._waiter = None
        self._joins.close()
        for trial in self._trials.values():
            trial.old.close()
            trial.future.cancel()
        self._trials.clear()
        sources, self.sources[:] = [*self.sources], []
        for source in sources:
            source.close()
        for waiting, _ in self._first:
            if isinstance(waiting, Source):
                waiting.spec.close()


def _entry(stream: Stream) -> SourceEntry:
    count = stream.count()
    events = None if count.events is None else Events(count.events, count.behind)
    return SourceEntry(stream.label, count.emitted, count.lost, stream.filtered, events)
