# SPDX-License-Identifier: BSD-2-Clause
"""What must be done so that servers run a declared set of trackers: pure functions, which ask and change nothing."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, Literal, NamedTuple

import msgspec
from msgspec import Struct

from eunomia.server.config import Declared
from eunomia.server.models import Tracker, TrackerRequest

Action = Literal["create", "update", "stop", "unchanged", "keep"]
How = Literal["", "patch", "object", "restart"]

_PATCHED = frozenset({"filters", "settings", "outputs", "duration"})
_SETS = frozenset({"streams", "programs", "skip_programs"})  # lists whose order means nothing
_SHOWN = 60  # characters of a value in a table


class Difference(Struct):
    """A field that a tracker has otherwise; None if it is as usual."""

    field: str
    before: Any
    after: Any


class Change(Struct, omit_defaults=True):
    """What to do with one tracker. ``keep`` is one that is not declared, and goes on.

    ``how`` a tracker is updated: by a patch, by another object in its place, or by a stop and a start. ``request``
    is what it is to run, if it is declared.
    """

    action: Action
    id: str
    how: How = ""
    why: str = ""
    fields: list[Difference] = []
    request: TrackerRequest | None = None

    @property
    def changes(self) -> bool:
        """Whether there is anything to do."""
        return self.action not in {"unchanged", "keep"}


def wanted(trackers: Sequence[Declared], digest: Callable[[str], str]) -> list[TrackerRequest]:
    """Return the requests for declared trackers; ``digest`` returns that of an object's file or name."""
    return [one.request(digest(one.object) if one.object else "") for one in trackers]


def diff(
    requests: Sequence[TrackerRequest], reported: Sequence[Tracker], may_stop: Callable[[str], bool]
) -> list[Change]:
    """Return what to do so that a server that reports these trackers runs what is requested, in this order.

    Those that run and are not requested are stopped if they may be. If nothing has changed, nothing is to be done.
    """
    there = {tracker.id: tracker for tracker in reported}
    asked = {request.id for request in requests}
    changes = [_change(request, there.get(request.id)) for request in requests]
    for tracker in reported:
        if tracker.id not in asked and tracker.state == "running":
            changes.append(Change("stop" if may_stop(tracker.id) else "keep", tracker.id))
    return changes


def _change(request: TrackerRequest, tracker: Tracker | None) -> Change:
    if tracker is None:
        return Change("create", request.id, request=request)
    fields = differences(request, tracker)
    if tracker.state == "running":
        if not fields:
            return Change("unchanged", request.id, request=request)
        return Change("update", request.id, _how({f.field for f in fields}, request, tracker), "", fields, request)
    if tracker.state == "stopped" and request.duration and not fields:
        return Change("unchanged", request.id, why="it has run for its duration", request=request)
    return Change("create", request.id, why=f"it has {tracker.state}", fields=fields, request=request)


def _how(fields: Collection[str], request: TrackerRequest, tracker: Tracker) -> How:
    if _PATCHED.issuperset(fields):
        return "patch"
    both = bool(request.object) and bool(tracker.request.object)
    return "object" if both and (_PATCHED | {"object"}).issuperset(fields) else "restart"


def differences(request: TrackerRequest, tracker: Tracker) -> list[Difference]:
    """Return the fields in which a tracker is not as requested."""
    running = tracker.request
    if running.object:  # it may have been updated since it was started
        running = msgspec.structs.replace(running, object=tracker.object)
    before, after = _normal(running), _normal(request)
    names = [name for name in TrackerRequest.__struct_fields__ if name != "id"]
    return [
        Difference(name, before.get(name), after.get(name))
        for name in names
        if not _same(before.get(name), after.get(name))
    ]


def _normal(request: TrackerRequest) -> dict[str, Any]:
    """Return a request's fields that are not as usual, the same for all requests that mean the same."""
    found: dict[str, Any] = msgspec.to_builtins(request)
    for name in _SETS & found.keys():
        found[name] = sorted(set(found[name]))
    for name in {"duration", "coalesce"} & found.keys():
        found[name] = float(found[name])
    filters = found.get("filters", {})
    for name, value in filters.items():
        filters[name] = sorted(set(value)) if isinstance(value, list) else value
    return {name: value for name, value in found.items() if value not in ({}, [])}


def _same(one: Any, other: Any) -> bool:
    """Compare with types: a setting of true is not one of 1."""
    return msgspec.json.encode(one, order="sorted") == msgspec.json.encode(other, order="sorted")


def rollback(before: Sequence[Tracker], now: Sequence[Tracker], applied: Sequence[Change]) -> list[Change]:
    """Return what to do so that a server runs again what it ran before some changes were applied.

    Trackers that these changes did not concern stay as they are.
    """
    concerned = {change.id for change in applied if change.changes}
    ran = [_request(tracker) for tracker in before if tracker.id in concerned and tracker.state == "running"]
    runs = [tracker for tracker in now if tracker.id in concerned and tracker.state == "running"]
    back = diff(ran, runs, lambda _: True)
    return [change for change in back if change.changes]


def _request(tracker: Tracker) -> TrackerRequest:
    """Return the request that has a tracker run what it runs now."""
    object_ = tracker.object if tracker.request.object else ""
    return msgspec.structs.replace(tracker.request, id=tracker.id, object=object_)


# Hosts


def hosts_of(words: Sequence[str]) -> list[str]:
    """Return hosts that are given by comma. Raises :class:`ValueError`."""
    hosts = [host.strip() for word in words for host in word.split(",")]
    for number, host in enumerate(hosts):
        if not host:
            raise ValueError("a host is empty: write them as in a,b,c")
        if host in hosts[:number]:
            raise ValueError(f"host {host!r} is there twice")
    return hosts


def waves(hosts: Sequence[str], steps: str) -> list[list[str]]:
    """Divide hosts into waves: ``1,25%,100%`` is one, then up to a quarter of all, then all; the rest are a last wave.

    Raises :class:`ValueError`.
    """
    found: list[list[str]] = []
    done = 0
    for word in [*steps.split(","), "100%"] if steps.strip() else ["100%"]:
        upto = min(_upto(word.strip(), len(hosts)), len(hosts))
        if upto > done:
            found.append(list(hosts[done:upto]))
            done = upto
    return found


def _upto(word: str, total: int) -> int:
    digits = word.removesuffix("%")
    number = int(digits) if digits.isascii() and digits.isdigit() and len(digits) < 10 else 0
    if not number or (word.endswith("%") and number > 100):
        raise ValueError(f"{word!r} is not a number of hosts, or a part as in 25%: write waves as in 1,25%,100%")
    return -(-total * number // 100) if word.endswith("%") else number


# Printing


class _Plan(Struct):
    host: str
    changes: list[Change]


class _Plans(Struct):
    hosts: list[_Plan]
    summary: dict[str, int]


def counted(plans: Mapping[str, Sequence[Change]]) -> dict[str, int]:
    """Return the number of trackers on all hosts for each action."""
    counts: dict[str, int] = dict.fromkeys(("create", "update", "stop", "unchanged", "keep"), 0)
    for changes in plans.values():
        for change in changes:
            counts[change.action] += 1
    return counts


def as_json(plans: Mapping[str, Sequence[Change]]) -> bytes:
    """Return plans as JSON, on one line."""
    return msgspec.json.encode(_Plans([_Plan(host, list(changes)) for host, changes in plans.items()], counted(plans)))


class Row(NamedTuple):
    """A line of the table of plans."""

    host: str
    tracker: str
    action: str
    details: str


def rows(plans: Mapping[str, Sequence[Change]]) -> list[Row]:
    """Return plans as lines: one for a tracker, and one more for each field after the first that changes."""
    found = []
    for host, changes in plans.items():
        for change in changes:
            action = f"{change.action} ({change.how})" if change.how else change.action
            details = [change.why] if change.why else []
            details += [f"{d.field}: {_text(d.before)} -> {_text(d.after)}" for d in change.fields]
            found.append(Row(host, change.id, action, details[0] if details else ""))
            found += [Row("", "", "", detail) for detail in details[1:]]
        if not changes:
            found.append(Row(host, "", "nothing to do", ""))
    return found


def table(plans: Mapping[str, Sequence[Change]]) -> str:
    """Return plans as a table, with a last line that counts."""
    from wcwidth import wcswidth

    from eunomia.sinks.escape import escape

    lines = [Row("HOST", "TRACKER", "ACTION", "DETAILS"), *(Row(*map(escape, row)) for row in rows(plans))]
    widths = [max(wcswidth(line[at]) for line in lines) for at in range(3)]
    text = ""
    for line in lines:
        cells = [cell + " " * (width - wcswidth(cell)) for cell, width in zip(line[:3], widths, strict=True)]
        text += "  ".join([*cells, line.details]).rstrip() + "\n"
    counts = counted(plans)
    said = f"{counts['create']} to create, {counts['update']} to update, {counts['stop']} to stop, "
    said += f"{counts['unchanged']} unchanged"
    return text + said + (f", {counts['keep']} not declared, which go on" if counts["keep"] else "") + "\n"


def _text(value: Any) -> str:
    if value is None:
        return "as usual"
    text = msgspec.json.encode(value).decode()
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}..."
