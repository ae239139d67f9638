# SPDX-License-Identifier: BSD-2-Clause
"""One tracker as the original describes it, in its file and in ``POST /start``: a name, handlers, arguments."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from msgspec import Struct, field

from eunomia.server.misfits import Misfit, Path, written


class Handler(Struct):
    """Where the original sends a tracker's events."""

    name: str
    args: list[str | int | float | bool] = []


class Original(Struct):
    """A tracker. Newer versions of the original have ``url`` in place of ``name``."""

    name: str = ""
    url: str = ""
    export_handlers: list[Handler] = field(default_factory=list)
    args: list[str | int | float | bool] = []


class Note(NamedTuple):
    """What became of a value of the original's."""

    path: Path
    sentence: str

    def __str__(self) -> str:
        return f"{written(self.path)}: {self.sentence}" if self.path else self.sentence


class Translated(NamedTuple):
    """The fields of a request of ours, empty if there is no such tracker, and what became of each value."""

    fields: dict[str, Any]
    notes: list[Note]
    misfits: list[Misfit]


# The original's names of trackers that do the same here, and of those that do something close to it.
_SAME = {"tcp": "tcpconnect"}
_CLOSE = {
    "files": ("opensnoop", "it shows which files are opened, not how much is read and written"),
    "syscount": ("syscall", "it counts calls by process too"),
}

# Export handlers, and what takes their place.
_HANDLERS = {
    **dict.fromkeys(
        ("stdout", "plain_text", "plain_txt"), "a server has no terminal: `eunomia attach ID` shows the rows as a table"
    ),
    **dict.fromkeys(("json_format", "json"), "`eunomia attach ID -o json` shows the rows; outputs write them to files"),
    "csv": "`eunomia attach ID -o csv` shows the rows; outputs write them to files",
    "container_info": "rows always have their container",
    "none": "rows are there for clients that ask for them",
    "prometheus": "a later version has metrics of trackers: [metrics] listen",
    **dict.fromkeys(("file", "database", "databse"), "the original never wrote any; outputs write to files"),
}

# Options of the original's trackers that have a counterpart: the field, and whether it takes numbers.
_PID = {"-p": "pids", "--pid": "pids"}
_OPTIONS = {
    "opensnoop": {**_PID, "-u": "uids", "--uid": "uids", "-n": "comms", "--name": "comms", "-d": "duration",
                  "--duration": "duration"},
    "process": _PID,
    "syscall": _PID,
}  # fmt: skip
_BECOMES = {
    "pids": "filters.pids",
    "uids": "filters.uids",
    "comms": "filters.comms; names are compared as a whole",
    "duration": "duration",
}
_DIGITS = 11  # of a number that is too large for all of these


def handler_note(path: Path, name: str) -> Note:
    """Return what takes the place of an export handler."""
    return Note(path, f"{name!r}: {_HANDLERS.get(name, 'the original has no such handler; left out')}")


def translate(original: Original, path: Path, known: Sequence[str]) -> Translated:
    """Return a tracker as a request of ours. ``known`` are the names of the trackers that are there."""
    name = original.name or original.url
    if not name:
        return Translated({}, [], [Misfit((*path, "name"), "it is missing")])
    notes, misfits = [], []
    kind = name if name in known else _SAME.get(name, name)
    if kind not in known and name in _CLOSE:
        kind, difference = _CLOSE[name]
        notes.append(Note(path, f"{name!r}: {kind} takes its place: {difference}"))
    if kind not in known:
        notes.append(Note(path, f"{name!r}: there is no such tracker yet; left out"))
        kind = ""
    fields: dict[str, Any] = {"kind": kind} if kind else {}
    for number, handler in enumerate(original.export_handlers):
        place: Path = (*path, "export_handlers", number)
        notes.append(handler_note(place, handler.name))
        if handler.args:
            notes.append(Note((*place, "args"), "the original does not use them either; left out"))
    if kind:
        misfits = list(_add_options(fields, notes, [str(arg) for arg in original.args], (*path, "args")))
    return Translated(fields, notes, misfits)


def _add_options(fields: dict[str, Any], notes: list[Note], args: Sequence[str], path: Path) -> Iterator[Misfit]:
    """Add what the arguments of a tracker ask for; yield those that are wrong."""
    options = _OPTIONS.get(fields["kind"], {})
    filters: dict[str, list[str | int]] = {}
    at = 0
    while at < len(args):
        place: Path = (*path, at)
        word, (option, value) = args[at], _split(args[at])
        at += 1
        name = options.get(option)
        if name is None:
            notes.append(Note(place, f"{word!r}: it has no counterpart; left out"))
            continue
        if not value and at < len(args):
            value, at = args[at], at + 1
        is_number = value.isascii() and value.isdigit() and len(value) < _DIGITS
        if name != "comms" and not is_number:
            yield Misfit(place, f"{option} needs a whole number, not {value!r}")
            continue
        if name == "duration":
            fields[name] = int(value)
        else:
            filters.setdefault(name, []).append(value if name == "comms" else int(value))
        notes.append(Note(place, f"{option} {value}: {_BECOMES[name]}"))
    if filters:
        fields["filters"] = filters


def _split(word: str) -> tuple[str, str]:
    """Return an option and the value in the same word, as in ``--pid=1`` and ``-p1``."""
    if word.startswith("--"):
        option, _, value = word.partition("=")
        return option, value
    return (word[:2], word[2:]) if word.startswith("-") else (word, "")
