# SPDX-License-Identifier: BSD-2-Clause
"""From a request to what the engine runs: the source with its options, and filters."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from eunomia import tracker
from eunomia.containers.selectors import Selectors
from eunomia.filters import Filters as Wanted
from eunomia.kernel import entries, settings
from eunomia.kernel.errors import BadObject, BadSetting, KernelError
from eunomia.kernel.foreign.choice import Wish
from eunomia.kernel.spec import Spec
from eunomia.kernel.wait import ring_size
from eunomia.server.models import Filters, TrackerRequest, Value
from eunomia.server.problems import ApiError
from eunomia.source import NoSuchTracker, Options, Source, open_source
from eunomia.typing import TYPE_CHECKING

if TYPE_CHECKING:
    from eunomia.kernel.foreign.sandbox import Description

_SHORTEST = 0.01  # seconds of a window in which equal events are counted


def source_of(request: TrackerRequest, name: str, get: Callable[[str], bytes]) -> Source:
    """Open what a request names; ``get`` returns an uploaded object. Raises :class:`ApiError`."""
    if bool(request.kind) == bool(request.object):
        raise ApiError(422, "name a kind, or an object: one of the two", field="kind")
    if request.kind:
        if "/" in request.kind or request.kind.endswith(".o"):
            raise ApiError(422, "a kind is a tracker's name; upload objects first", field="kind")
        try:
            source = open_source(request.kind)
        except NoSuchTracker as error:
            raise ApiError(422, str(error), field="kind") from None
        except BadObject as error:
            raise ApiError(422, str(error), field="kind") from None
    else:
        source = Source(name, spec_of(get(request.object), name, request.events))
    source.name = name
    return source


def described(data: bytes, name: str, events: Mapping[str, str] | None = None) -> Description:
    """Read an object that somebody sent, in a process without rights; raises :class:`ApiError`."""
    from eunomia.kernel.foreign import sandbox

    try:
        return sandbox.inspect(data, name, events)
    except BadObject as error:
        raise ApiError(422, str(error), field="object") from None
    except BadSetting as error:
        raise ApiError(422, str(error), field="events") from None
    except KernelError as error:
        raise ApiError(503, f"no object is read here: {error}", field="object") from None


def spec_of(data: bytes, name: str, events: Mapping[str, str] | None = None) -> Spec:
    """Read an object that somebody sent, here, after a process without rights has; raises :class:`ApiError`."""
    described(data, name, events)
    try:
        return Spec(data, name, events)
    except BadObject as error:
        raise ApiError(422, str(error), field="object") from None


def options_of(request: TrackerRequest, source: Source) -> Options:
    """Return how a source is loaded; raises :class:`ApiError` for what it does not have."""
    for path, value in request.settings.items():
        _check_setting(source, path, value)
    for stream in request.streams:
        if stream not in source.spec.streams:
            raise ApiError(422, _none("stream", stream, source.spec.streams), field="streams")
    for name in request.map_sizes:
        if name not in source.spec.maps:
            raise ApiError(422, _none("map", name, source.spec.maps), field=f"map_sizes.{name}")
    if request.coalesce:
        if request.coalesce < _SHORTEST:
            raise ApiError(422, "it is from 0.01 to 60 seconds", field="coalesce")
        if not any(stream.coalescing for stream in source.spec.streams.values()):
            raise ApiError(422, f"no stream of {source.name} says which of its events are equal", field="coalesce")
    wish = _wish(request, source)
    return Options(
        dict(request.settings),
        dict(request.map_sizes),
        wish,
        tuple(request.streams),
        ring_size(request.ring_size) if request.ring_size else None,
        round(request.coalesce * 1e9),
    )


def _check_setting(source: Source, path: str, value: Value) -> None:
    setting = settings.locate(source.spec.settings, path)
    if setting is not None and not setting.reserved:
        return
    if setting is None and "[" in path and entries.table_of(source.spec.tables, path) is not None:
        return
    known = [s.name for s in settings.listed(source.spec.settings, {})]
    raise ApiError(422, _none("setting", path, known), field=f"settings.{path}")


def _wish(request: TrackerRequest, source: Source) -> Wish | None:
    if not (request.programs or request.skip_programs or request.attach):
        return None
    if source.found is not None:
        raise ApiError(422, "trackers choose their programs and what to attach them to", field="programs")
    known = {p.name for p in source.spec.programs}
    for name in request.attach:
        if name not in known:
            raise ApiError(422, _none("program", name, known), field=f"attach.{name}")
    return Wish(tuple(request.programs), tuple(request.skip_programs), {k: tuple(v) for k, v in request.attach.items()})


def _none(what: str, name: str, known: object) -> str:
    there = ", ".join(sorted(known)) if known else "none"  # type: ignore[call-overload]
    return f"there is no {what} {name!r}: there are {there}"


def filters_of(filters: Filters, field: str = "filters") -> Wanted:
    """Return the engine's filters; raises :class:`ApiError`."""
    wanted = Wanted(
        tuple(filters.pids),
        tuple(filters.comms),
        tuple(filters.uids),
        Selectors(
            tuple(filters.containers), tuple(filters.images), tuple(filters.pods), tuple(filters.namespaces),
            tuple(filters.labels), tuple(filters.runtimes),
        ),
        filters.host_only,
        filters.containers_only,
        filters.traces_itself,
    )  # fmt: skip
    try:
        wanted.selectors.match()
        wanted.selection()
    except ValueError as error:
        raise ApiError(422, str(error).replace("--", ""), field=field) from None
    return wanted


def known_kinds() -> list[str]:
    """Return the names of the trackers that can be started by name."""
    return [found.name for found in tracker.every() if not found.broken]
