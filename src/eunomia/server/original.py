# SPDX-License-Identifier: BSD-2-Clause
"""The three calls of the original's API: ``POST /start``, ``POST /stop`` and ``GET /list``.

Requests and answers are as its documentation has them. There trackers have numbers; here they have names, so each gets
a number when it is first seen. Unlike the original, errors are answered: a status that is not 200, and ``message``.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import msgspec
from msgspec import Struct

from eunomia.server import original_tracker
from eunomia.server.misfits import explained, fitted, unknown
from eunomia.server.models import Tracker, TrackerRequest
from eunomia.server.original_tracker import Original
from eunomia.server.problems import ApiError


class Started(Struct, omit_defaults=True):
    """The answer to ``/start``. ``notes`` say what of the request has no counterpart here."""

    status: str
    id: int
    notes: list[str] = []


class Stopped(Struct):
    """The answer to ``/stop``."""

    status: str


class Listed(Struct):
    """A tracker in a list."""

    id: int
    name: str


class Listing(Struct):
    """The answer to ``/list``."""

    status: str
    list: list[Listed]


class Failed(Struct):
    """The answer if something is wrong."""

    status: str
    message: str


class _Stop(Struct):
    id: int | str


class Start(NamedTuple):
    """A request to start a tracker, in our form; ``name`` is the one that was given."""

    request: TrackerRequest
    name: str
    notes: list[str]


def start(body: bytes, known: Sequence[str]) -> Start:
    """Return what ``POST /start`` asks for; ``known`` are the kinds of trackers. Raises :class:`ApiError`."""
    data = _decoded(body)
    original, misfits = fitted(data, Original)
    if original is None:
        raise ApiError(422, misfits[0].sentence, field=misfits[0].where)
    fields, said, misfits = original_tracker.translate(original, (), known)
    if misfits:
        raise ApiError(422, misfits[0].sentence, field=misfits[0].where)
    name = original.name or original.url
    if not fields:
        raise ApiError(422, unknown(name, known), field="name")
    assert isinstance(data, dict)
    notes = [str(note) for note in said]
    notes += [f"{key}: there is no such field; left out" for key in data if key not in Original.__struct_fields__]
    request, misfits = fitted(fields, TrackerRequest)
    if request is None:  # a process id that is too large
        raise ApiError(422, misfits[0].sentence, field="args")
    return Start(request, name, notes)


def stop(body: bytes) -> int:
    """Return the number of the tracker that ``POST /stop`` names. Raises :class:`ApiError`."""
    data = _decoded(body)
    try:
        given = msgspec.convert(data, _Stop).id
    except msgspec.ValidationError as error:
        misfit = explained(error, data, _Stop)
        raise ApiError(422, misfit.sentence, field="id") from None
    text = str(given)
    if not (text.isascii() and text.isdigit() and len(text) < 16):
        raise ApiError(422, f"'{text[:40]}' is not a tracker's number", field="id")
    return int(text)


def _decoded(body: bytes) -> object:
    try:
        return msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ApiError(400, f"the body is not JSON: {error}") from None


class Numbers:
    """The numbers of trackers, from 1; none is used twice. Not to be shared by threads."""

    def __init__(self) -> None:
        """Begin with no tracker."""
        self._last = 0
        self._known: dict[tuple[str, str], Listed] = {}

    def of(self, tracker: Tracker, name: str = "") -> Listed:
        """Return the number of a tracker, and the name under which it was started, if it was given once."""
        key = (tracker.id, tracker.started)
        if key not in self._known:
            self._last += 1
            self._known[key] = Listed(self._last, name or tracker.kind or tracker.id)
        return self._known[key]

    def id_of(self, number: int) -> str:
        """Return the id of the tracker with a number. Raises :class:`ApiError`."""
        for (id_, _), listed in self._known.items():
            if listed.id == number:
                return id_
        raise ApiError(404, f"there is no tracker {number}", field="id")

    def running(self, trackers: Iterable[Tracker]) -> list[Listed]:
        """Return those that run; the others are forgotten."""
        there = [tracker for tracker in trackers if tracker.state == "running"]
        listed = [self.of(tracker) for tracker in there]
        kept = {(tracker.id, tracker.started) for tracker in there}
        self._known = {key: one for key, one in self._known.items() if key in kept}
        return sorted(listed, key=lambda one: one.id)


def started(tracker: Tracker, asked: Start, numbers: Numbers) -> Started:
    """Return the answer for a tracker that was started."""
    return Started("ok", numbers.of(tracker, asked.name).id, asked.notes)


def stopped() -> Stopped:
    """Return the answer for a tracker that was stopped."""
    return Stopped("ok")


def listing(trackers: Iterable[Tracker], numbers: Numbers) -> Listing:
    """Return the answer to ``GET /list``."""
    return Listing("ok", numbers.running(trackers))


def failed(error: ApiError) -> Failed:
    """Return the answer for an error; its status is the error's."""
    return Failed("error", f"{error.field}: {error.detail}" if error.field else error.detail)
