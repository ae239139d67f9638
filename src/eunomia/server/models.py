# SPDX-License-Identifier: BSD-2-Clause
"""What requests and answers of the API hold. The OpenAPI description is made from these structs.

Times are ISO 8601 in UTC, durations are seconds. Unknown fields of a request are refused.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from msgspec import UNSET, Meta, Struct, UnsetType

ID = r"^[a-z0-9][a-z0-9._-]{0,62}$"

Id = Annotated[str, Meta(pattern=ID, description="Name of a tracker on this server.")]
Digest = Annotated[str, Meta(pattern="^sha256:[0-9a-f]{64}$", description="SHA-256 of an object's bytes.")]
Text = Annotated[str, Meta(min_length=1, max_length=4096)]
Value = str | int | float | bool
_Number = Annotated[int, Meta(ge=0, le=(1 << 32) - 1)]
_Pid = Annotated[int, Meta(ge=1, le=1 << 22)]
_Texts = Annotated[list[Text], Meta(max_length=1024)]


class Filters(Struct, forbid_unknown_fields=True, omit_defaults=True, frozen=True):
    """Rows that are wanted; an empty list means all. Selectors of containers take patterns as in ``web*``."""

    pids: Annotated[list[_Pid], Meta(max_length=1024)] = []
    comms: _Texts = []
    uids: Annotated[list[_Number], Meta(max_length=1024)] = []
    containers: _Texts = []
    images: _Texts = []
    pods: _Texts = []
    namespaces: _Texts = []
    labels: _Texts = []
    runtimes: _Texts = []
    host_only: bool = False
    containers_only: bool = False
    traces_itself: bool = False


class OutputRequest(Struct, forbid_unknown_fields=True, omit_defaults=True):
    """A file that rows are written to. ``rotate`` is the size in bytes at which it is rotated, 0 for never."""

    file: Text
    format: Literal["json", "csv"] = "json"
    columns: _Texts = []
    rotate: Annotated[int, Meta(ge=0, le=1 << 40)] = 0


class TrackerRequest(Struct, forbid_unknown_fields=True, omit_defaults=True):
    """A tracker to start: a ``kind`` that the server knows, or an ``object`` that was uploaded.

    ``add`` are columns that rows have beside the usual ones. ``coalesce`` is the window in which equal events are
    counted, ``duration`` the time after which the tracker is stopped; 0 for neither.
    """

    kind: Annotated[str, Meta(max_length=63)] = ""
    object: Annotated[str, Meta(pattern="^(sha256:[0-9a-f]{64})?$")] = ""
    id: Annotated[str, Meta(pattern=f"^$|{ID}")] = ""
    settings: dict[str, Value] = {}
    filters: Filters = Filters()
    streams: _Texts = []
    outputs: Annotated[list[OutputRequest], Meta(max_length=16)] = []
    add: _Texts = []
    duration: Annotated[float, Meta(ge=0, le=31_536_000)] = 0
    coalesce: Annotated[float, Meta(ge=0, le=60)] = 0
    programs: _Texts = []
    skip_programs: _Texts = []
    attach: dict[str, _Texts] = {}
    map_sizes: dict[str, Annotated[int, Meta(ge=1, le=1 << 30)]] = {}
    events: dict[str, Text] = {}
    ring_size: Annotated[int, Meta(ge=0, le=1 << 30)] = 0


class TrackerPatch(Struct, forbid_unknown_fields=True):
    """What to change of a tracker that runs; what is not given stays."""

    filters: Filters | UnsetType = UNSET
    settings: dict[str, Value] | UnsetType = UNSET
    outputs: Annotated[list[OutputRequest], Meta(max_length=16)] | UnsetType = UNSET
    duration: Annotated[float, Meta(ge=0, le=31_536_000)] | UnsetType = UNSET


class UpdateRequest(Struct, forbid_unknown_fields=True, omit_defaults=True):
    """How the object of a tracker that runs is replaced.

    Without ``object`` it is opened again, as a built-in tracker after an upgrade. In the ``trial``, seconds, the new
    object must show events if the old one did in as long a time before; else the old one goes on.
    """

    object: Annotated[str, Meta(pattern="^(sha256:[0-9a-f]{64})?$")] = ""
    settings: dict[str, Value] = {}
    trial: Annotated[float, Meta(ge=0, le=60)] = 0
    fresh_maps: bool = False


class RollbackRequest(Struct, forbid_unknown_fields=True, omit_defaults=True):
    """The generation to go back to; 0 is the one before."""

    generation: Annotated[int, Meta(ge=0)] = 0


class Histogram(Struct, omit_defaults=True):
    """How the elements of a histogram count: ``log2``, or ``linear`` in steps; ``more``: the last has no upper end."""

    kind: str
    unit: str = ""
    step: int = 1
    more: bool = False


class Column(Struct, omit_defaults=True):
    """A column of a stream.

    ``type`` is the type in C, ``meaning`` what its numbers stand for, ``size`` its bytes in a record. Tables leave
    out ``hidden`` columns unless asked for. ``nullable``: there are rows without a value. ``tagged``: another column
    says which member of a union it is.
    """

    name: str
    type: str
    doc: str = ""
    meaning: str = ""
    size: int = 0
    hidden: bool = False
    nullable: bool = False
    tagged: bool = False
    histogram: Histogram | None = None


class Stream(Struct, omit_defaults=True):
    """A stream of a tracker. ``kind`` is ``events`` or ``table``, which is emptied at each interval.

    ``default_columns`` are those of a table for people; empty for all that are not hidden. ``whole`` rows have all
    columns of a container and its pod.
    """

    name: str
    kind: str
    columns: list[Column]
    default_columns: list[str] = []
    whole: bool = False


class Generation(Struct, omit_defaults=True):
    """One object that a tracker has run. ``outcome`` is running, replaced, failed, or on trial."""

    number: int
    object: str
    time: str
    outcome: str
    settings: dict[str, Value] = {}
    detail: str = ""


class Tracker(Struct, omit_defaults=True):
    """A tracker of this server. ``state`` is starting, running, stopped, or failed."""

    id: str
    kind: str
    state: str
    object: str
    generation: int
    started: str
    request: TrackerRequest
    variant: str = ""
    stops: str = ""
    streams: list[Stream] = []
    notes: list[str] = []
    readers: int = 0


class Trackers(Struct):
    """The trackers of this server."""

    trackers: list[Tracker]


class Kind(Struct, omit_defaults=True):
    """A tracker that can be started by name. ``settings`` are by name, with their types."""

    kind: str
    question: str
    streams: list[str]
    settings: dict[str, str] = {}
    maps: list[str] = []


class Kinds(Struct):
    """The trackers that can be started by name."""

    kinds: list[Kind]


class LogLine(Struct):
    """Something that happened to a tracker. ``kind`` is started, note, changed, updated, failed, or stopped."""

    time: str
    kind: str
    text: str


class Logs(Struct):
    """What happened to a tracker, the latest last."""

    lines: list[LogLine]


class History(Struct):
    """The objects that a tracker has run, the first one first."""

    generations: list[Generation]


class SourceAccount(Struct, omit_defaults=True):
    """What a stream's probe has emitted and lost; ``lost`` is null if the object does not count it."""

    stream: str
    emitted: int
    lost: int | None
    filtered: int
    events: int | None = None


class OutputAccount(Struct):
    """What became of a stream's rows in an output: received = filtered + delivered + dropped + waiting."""

    output: str
    stream: str
    received: int
    filtered: int
    delivered: int
    dropped: dict[str, int]
    waiting: int


class ReaderAccount(Struct):
    """What became of the rows for one reader of the stream: passed = filtered + delivered + lost."""

    reader: str
    passed: int
    filtered: int
    delivered: int
    lost: int


class Ledger(Struct):
    """The accounts of both sides of the engine, and of readers."""

    sources: list[SourceAccount]
    outputs: list[OutputAccount]
    readers: list[ReaderAccount]


class Snapshot(Struct):
    """The latest rows of a tracker, oldest first."""

    rows: list[dict[str, Any]]


class Containers(Struct):
    """The containers that run."""

    containers: list[dict[str, Any]]


class Processes(Struct):
    """The processes that run, each before its children. ``depth`` is that in the tree."""

    processes: list[dict[str, Any]]


class Uploaded(Struct, omit_defaults=True):
    """An object that was uploaded."""

    object: str
    size: int
    programs: list[str]
    streams: list[str]
    settings: list[str] = []
    maps: list[str] = []


class Health(Struct):
    """Whether the server works."""

    status: str
    version: str


class Problem(Struct, omit_defaults=True):
    """An error, as in RFC 9457. ``field`` is the path of the field of the request that was wrong."""

    type: str
    title: str
    status: int
    detail: str = ""
    field: str = ""
