# SPDX-License-Identifier: BSD-2-Clause
"""The configuration file of the original Eunomia, in C++: translated to ours, with a sentence for each of its keys.

It has two forms. The later one, in JSON or TOML, has ``enabled_trackers`` at the top; the earlier one is TOML with
tables ``[trackers]``, ``[exporter]``, ``[rules]`` and others.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Annotated, Any, NamedTuple

import msgspec
from msgspec import Meta, Struct

from eunomia.server import original_tracker
from eunomia.server.misfits import Misfit, Path, fitted
from eunomia.server.original_tracker import Note, Original, handler_note
from eunomia.server.toml_text import dumps
from eunomia.sinks.escape import escape
from eunomia.tracker import every

_Number = Annotated[int, Meta(ge=0)]
_Name = str | int


class Rule(Struct):
    """A rule that detects."""

    rule_name: str = ""
    type: str = ""
    trigger: str = ""
    err_msg: str = ""


class Seccomp(Struct):
    """The system calls that a container may make."""

    container_id: _Name = ""
    allow_syscall: list[str] = []


class Later(Struct):
    """The later form."""

    run_selected: str = "server"
    enabled_trackers: list[Original] | None = None
    disable_other_configs: bool = False
    tracing_selected: str = "all"
    tracing_target_id: _Name = ""
    target_pid: _Number = 0
    target_container_id: _Name = ""
    target_contaienr_id: _Name = ""  # as the original spells it
    container_id: _Name = ""
    container_name: str = ""
    exit_after: _Number = 0
    is_auto_exit: bool = True
    enabled_export_types: list[str] | None = None
    fmt: str = "plain_text"
    enable_container_manager: bool = True
    prometheus_listening_address: str = ""
    enable_sec_rule_detect: bool = False
    security_rules: list[Rule] = []
    seccomp_data: list[Seccomp] = []
    enable_seccomp_module: bool = False
    server_host: str = "localhost"
    server_port: Annotated[int, Meta(ge=1, le=65535)] = 8527


class _Trackers(Struct):
    Enable: list[str] = []
    enable: list[str] = []
    container_id: _Name = ""
    process_id: _Number = 0
    run_time: _Number = 0
    fmt: str = ""


class _Enabled(Struct):
    Enable: list[str] = []
    enable: list[str] = []


class _Prometheus(Struct):
    endpoint: str = ""
    port: _Number = 0


class _Allowed(Struct):
    allow: list[str] = []


class Earlier(Struct):
    """The earlier form; what else is at the top are tables of rules and of trackers."""

    trackers: _Trackers = msgspec.field(default_factory=_Trackers)
    exporter: _Enabled = msgspec.field(default_factory=_Enabled)
    prometheus: _Prometheus = msgspec.field(default_factory=_Prometheus)
    rules: _Enabled = msgspec.field(default_factory=_Enabled)
    seccomp: _Allowed = msgspec.field(default_factory=_Allowed)


class Translation(NamedTuple):
    """The file in our form: as data, as TOML to save, and what became of each value of the original's."""

    data: dict[str, Any]
    text: str
    notes: list[Note]


_KEYS = frozenset(Later.__struct_fields__)
_TABLES = frozenset(Earlier.__struct_fields__) - {"trackers"}
_DEFAULT = ("process", "files", "tcpconnect")

_RULES = "rules that detect come with a later version, as [[rules]]; left out"
_SECCOMP = "restrictions of system calls come with a later version, as [[seccomp]]; left out"
_METRICS = "metrics of trackers come with a later version, as [metrics] listen; left out"


def is_original(data: Mapping[str, Any]) -> bool:
    """Return whether a file has a form of the original's."""
    if "server" in data or isinstance(data.get("trackers"), list):
        return False
    return bool(_KEYS & data.keys()) or isinstance(data.get("trackers"), dict) or bool(_TABLES & data.keys())


def translate(data: Mapping[str, Any]) -> tuple[Translation, list[Misfit]]:
    """Return a file of the original's in our form, and what is wrong in it."""
    made = _Making()
    if _KEYS & data.keys():
        later, misfits = fitted(dict(data), Later)
        if later is not None:
            _later(made, later, data)
    else:
        earlier, misfits = fitted(dict(data), Earlier)
        if earlier is not None:
            _earlier(made, earlier, data)
    return made.done(data), [*misfits, *made.misfits]


class _Making:
    """A translation that is being made."""

    def __init__(self) -> None:
        self.notes: list[Note] = []
        self.misfits: list[Misfit] = []
        self.server: dict[str, Any] = {}
        self.trackers: list[dict[str, Any]] = []
        self._kinds = [found.name for found in every() if not found.broken]

    def say(self, path: Path, sentence: str) -> None:
        self.notes.append(Note(path, sentence))

    def add(self, original: Original, path: Path) -> None:
        """Add a tracker."""
        fields, notes, misfits = original_tracker.translate(original, path, self._kinds)
        self.misfits += misfits
        if fields:
            kind = fields["kind"]
            taken = sum(one["kind"] == kind for one in self.trackers)
            self.trackers.append({"id": f"{kind}-{taken + 1}" if taken else kind, **fields})
            self.say(path, f"tracker {self.trackers[-1]['id']}")
        self.notes += notes

    def select(self, name: str, value: _Name, path: Path) -> None:
        """Have all trackers show only some rows."""
        for tracker in self.trackers:
            there = tracker.setdefault("filters", {}).setdefault(name, [])
            if value not in there:
                there.append(value)
        self.say(path, f"filters.{name} of each tracker")

    def select_pid(self, word: _Name, path: Path) -> None:
        """Select a process by what may be text."""
        text = str(word)
        if text.isascii() and text.isdigit() and 0 < int(text[:8]) <= 1 << 22:
            self.select("pids", int(text), path)
        else:
            self.misfits.append(Misfit(path, f"'{text[:40]}' is not the id of a process"))

    def select_container(self, word: _Name, path: Path) -> None:
        """Select a container by name or id; of the latter the original's files sometimes have a number."""
        self.select("containers", str(word), path)
        if isinstance(word, int):
            self.say(path, f"a number; {word} is taken as the beginning of a container's id")

    def end_after(self, seconds: int, path: Path) -> None:
        """Have all trackers stop."""
        for tracker in self.trackers:
            tracker.setdefault("duration", seconds)
        self.say(path, f"duration of each tracker: {seconds} s; the server goes on")

    def done(self, original: Mapping[str, Any]) -> Translation:
        """Return the translation; of values of which nothing was said, it is said that they do nothing."""
        for path in _leaves(original, ()):
            if not any(path[: len(note.path)] == note.path[: len(path)] for note in self.notes if note.path):
                self.say(path, "it has no effect here")
        data: dict[str, Any] = {"server": self.server} if self.server else {}
        if self.trackers:
            data["trackers"] = self.trackers
        notes = list(dict.fromkeys(self.notes))
        comments = "".join(f"# {escape(str(note))}\n" for note in notes)
        return Translation(data, f"{comments}\n{dumps(data)}", notes)


def _leaves(value: Any, path: Path) -> Iterator[Path]:
    """Yield the paths of all values that are no tables, or empty ones; a list is one value."""
    if isinstance(value, dict) and value:
        for key, inner in value.items():
            yield from _leaves(inner, (*path, key))
    elif path:
        yield path


# The later form


_MODES = {
    "server": "this file is for `eunomia server`",
    "daemon": "this file is for `eunomia server`, which is a daemon",
    "run": "this file is for `eunomia server`; `eunomia run TRACKER` runs without one",
    "safe": _RULES,
    "seccomp": _SECCOMP,
    "help": "it has no counterpart in a file; left out",
}


def _later(made: _Making, later: Later, data: Mapping[str, Any]) -> None:
    _unknown(made, data, Later)
    trackers = later.enabled_trackers
    if trackers is None:
        made.say(("enabled_trackers",), f"not given: the original starts {', '.join(_DEFAULT)}")
        trackers = [Original(name) for name in _DEFAULT]
    for number, original in enumerate(trackers):
        made.add(original, ("enabled_trackers", number))
    if mode := data.get("run_selected"):
        made.say(("run_selected",), _MODES.get(mode, f"the original has no mode {mode!r}; left out"))
    _select(made, later)
    if later.exit_after and later.is_auto_exit:
        made.end_after(later.exit_after, ("exit_after",))
    elif later.exit_after:
        made.say(("exit_after",), "is_auto_exit is false; left out")
    if "is_auto_exit" in data:
        made.say(("is_auto_exit",), f"exit_after {'holds' if later.is_auto_exit else 'does not hold'}")
    _exports(made, later, data)
    for number, rule in enumerate(later.security_rules):
        made.say(("security_rules", number), f"{rule.rule_name!r}: {_RULES}")
    for number, one in enumerate(later.seccomp_data):
        calls = f"container {one.container_id!r}, {len(one.allow_syscall)} calls"
        made.say(("seccomp_data", number), f"{calls}: {_SECCOMP}")
    if later.enable_sec_rule_detect:
        made.say(("enable_sec_rule_detect",), _RULES)
    if later.enable_seccomp_module:
        made.say(("enable_seccomp_module",), _SECCOMP)
    _listen(made, later.server_host, later.server_port, [n for n in ("server_host", "server_port") if n in data])


def _select(made: _Making, later: Later) -> None:
    by, target, place = later.tracing_selected, later.tracing_target_id, ("tracing_target_id",)
    if by == "pid":
        made.select_pid(target, place)
    elif by == "container_id" and target != "":
        made.select_container(target, place)
    elif by == "container_id":
        made.misfits.append(Misfit(place, "it is empty, and tracing_selected is container_id"))
    elif by != "all":
        made.misfits.append(Misfit(("tracing_selected",), f"'{by[:40]}' is none of all, pid, container_id"))
    elif target:
        made.say(place, "tracing_selected is all; left out")
    made.say(("tracing_selected",), f"{by}, in filters of each tracker" if by != "all" else "all rows")
    for name in ("target_container_id", "target_contaienr_id", "container_id", "container_name"):
        if value := getattr(later, name):
            made.select_container(value, (name,))
    if later.target_pid:
        made.select_pid(later.target_pid, ("target_pid",))


def _exports(made: _Making, later: Later, data: Mapping[str, Any]) -> None:
    place = ("enabled_export_types",)
    if later.disable_other_configs:
        made.say(("disable_other_configs",), "fmt, enabled_export_types and enable_container_manager do not hold")
    elif later.enabled_export_types is None:
        made.say(place, "not given: the original prints rows and has metrics, which come with a later version")
    for number, name in enumerate(later.enabled_export_types or ()):
        made.notes.append(handler_note((*place, number), later.fmt if name == "stdout" else name))
    if "fmt" in data:
        made.notes.append(handler_note(("fmt",), later.fmt))
    if "enable_container_manager" in data:
        made.say(("enable_container_manager",), "rows always have their container")
    if later.prometheus_listening_address:
        made.say(("prometheus_listening_address",), f"{later.prometheus_listening_address!r}: {_METRICS}")


def _listen(made: _Making, host: str, port: int, given: Sequence[str]) -> None:
    where = "127.0.0.1" if host == "localhost" else host
    try:
        is_loopback = ipaddress.ip_address(where).is_loopback
    except ValueError:
        is_loopback = False
    address = f"[{where}]:{port}" if ":" in where else f"{where}:{port}"
    if not given:
        sentence = f'not given: the original listens on {host}:{port}; server.listen = ["{address}"] does, with tokens'
        made.say(("server_port",), sentence)
    elif is_loopback:
        made.server["listen"] = [address]
    for name in given:
        if is_loopback:
            made.say((name,), "server.listen; callers need a token: `eunomia token create`")
        else:
            made.say((name,), f"{host}:{port} can be reached from other machines, which needs [server.tls]; left out")


# The earlier form


def _earlier(made: _Making, earlier: Earlier, data: Mapping[str, Any]) -> None:
    trackers = [*earlier.trackers.Enable, *earlier.trackers.enable]
    rules = [*earlier.rules.Enable, *earlier.rules.enable]
    _unknown(made, data, Earlier, but={*trackers, *rules})
    for path, name in _enabled("trackers", earlier.trackers):
        made.add(Original(name), path)
        for key in _table(data, name) if name not in rules else ():
            made.say((name, key), "it has no counterpart; left out")
    if earlier.trackers.container_id:
        made.select_container(earlier.trackers.container_id, ("trackers", "container_id"))
    if earlier.trackers.process_id:
        made.select_pid(earlier.trackers.process_id, ("trackers", "process_id"))
    if earlier.trackers.run_time:
        made.end_after(earlier.trackers.run_time, ("trackers", "run_time"))
    if earlier.trackers.fmt:
        made.notes.append(handler_note(("trackers", "fmt"), earlier.trackers.fmt))
    for path, name in _enabled("exporter", earlier.exporter):
        made.notes.append(handler_note(path, name))
    for key in _Prometheus.__struct_fields__:
        if value := getattr(earlier.prometheus, key):
            made.say(("prometheus", key), f"{value!r}: {_METRICS}")
    for path, name in _enabled("rules", earlier.rules):
        made.say(path, f"{name!r}: {_RULES}")
        for key in _table(data, name):
            made.say((name, key), f"of the rule {name!r}; left out with it")
    if earlier.seccomp.allow:
        made.say(("seccomp", "allow"), f"{len(earlier.seccomp.allow)} calls: {_SECCOMP}")


def _enabled(name: str, table: _Trackers | _Enabled) -> Iterator[tuple[Path, str]]:
    """Yield what a table enables, by either spelling of the key, with its path."""
    for key in ("Enable", "enable"):
        for number, word in enumerate(getattr(table, key)):
            yield (name, key, number), word


def _table(data: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    found = data.get(name)
    return found if isinstance(found, dict) and name not in Earlier.__struct_fields__ else {}


def _unknown(made: _Making, data: Mapping[str, Any], kind: type[Struct], but: Collection[str] = ()) -> None:
    """Say of each key that the original does not know it either; ``but`` are tables that others name."""
    for path in _strange(data, msgspec.inspect.type_info(kind), ()):
        if path[0] not in but:
            made.say(path, "the original has no such key; left out")


def _strange(value: Any, node: Any, path: Path) -> Iterator[Path]:
    inspect = msgspec.inspect
    if isinstance(node, inspect.UnionType):
        node = next((t for t in node.types if isinstance(t, inspect.ListType)), node)
    if isinstance(node, inspect.StructType) and isinstance(value, dict):
        fields = {f.encode_name: f.type for f in node.fields}
        for key, inner in value.items():
            if key in fields:
                yield from _strange(inner, fields[key], (*path, key))
            else:
                yield (*path, key)
    elif isinstance(node, inspect.ListType) and isinstance(value, list):
        for number, inner in enumerate(value):
            yield from _strange(inner, node.item_type, (*path, number))
