# SPDX-License-Identifier: BSD-2-Clause
"""The configuration file of the original Eunomia, in C++: translated to ours, with a sentence for each of its keys.

It has two forms. The later one, in JSON or TOML, has ``enabled_trackers`` at the top; the earlier one is TOML with
tables ``[trackers]``, ``[exporter]``, ``[rules]`` and others.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator, Mapping, Sequence
from typing import Annotated, Any, NamedTuple

import msgspec
from msgspec import Meta, Struct

from eunomia.server import original_tracker
from eunomia.server.misfits import Misfit, Path, fitted, written
from eunomia.server.original_tracker import Original
from eunomia.server.toml_text import dumps
from eunomia.sinks.escape import escape

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
    """The file in our form: as data, as TOML to save, and a sentence for each key of the original's."""

    data: dict[str, Any]
    text: str
    notes: list[str]


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
    made = _Making(_known_kinds())
    if _KEYS & data.keys():
        later, misfits = fitted(dict(data), Later)
        if later is not None:
            made.notes += _unknown(data, Later)
            _later(made, later, data)
    else:
        earlier, misfits = fitted(dict(data), Earlier)
        if earlier is not None:
            _earlier(made, earlier, data)
    return made.done(), [*misfits, *made.misfits]


class _Making:
    """A translation that is being made."""

    def __init__(self, known: Sequence[str]) -> None:
        self.notes: list[str] = []
        self.misfits: list[Misfit] = []
        self.server: dict[str, Any] = {}
        self.trackers: list[dict[str, Any]] = []
        self._known = known

    def say(self, path: Path, sentence: str) -> None:
        self.notes.append(f"{written(path)}: {sentence}")

    def add(self, original: Original, path: Path) -> None:
        """Add a tracker."""
        fields, notes, misfits = original_tracker.translate(original, path, self._known)
        self.misfits += misfits
        if fields:
            kind = fields["kind"]
            taken = sum(one["kind"] == kind for one in self.trackers)
            self.trackers.append({"id": f"{kind}-{taken + 1}" if taken else kind, **fields})
            self.say(path, f"tracker {self.trackers[-1]['id']}")
        self.notes += notes

    def select(self, name: str, value: Any, path: Path) -> None:
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
        """Select a container by an id, of which the original's files sometimes have a number."""
        text = str(word)
        self.select("containers", text, path)
        if isinstance(word, int):
            self.say(path, f"a number; {text} is taken as the beginning of a container's id")

    def end_after(self, seconds: int, path: Path) -> None:
        """Have all trackers stop."""
        for tracker in self.trackers:
            tracker.setdefault("duration", seconds)
        self.say(path, f"duration of each tracker: {seconds} s; the server goes on")

    def done(self) -> Translation:
        """Return the translation."""
        data: dict[str, Any] = {}
        if self.server:
            data["server"] = self.server
        if self.trackers:
            data["trackers"] = self.trackers
        notes = list(dict.fromkeys(self.notes))
        comments = "".join(f"# {escape(note)}\n" for note in notes)
        return Translation(data, f"{comments}\n{dumps(data)}", notes)


def _known_kinds() -> list[str]:
    from eunomia import tracker

    return [found.name for found in tracker.every() if not found.broken]


# The later form


def _later(made: _Making, later: Later, data: Mapping[str, Any]) -> None:
    trackers = later.enabled_trackers
    if trackers is None:
        made.say(("enabled_trackers",), f"not given: the original starts {', '.join(_DEFAULT)}")
        trackers = [Original(name) for name in _DEFAULT]
    for number, original in enumerate(trackers):
        made.add(original, ("enabled_trackers", number))
    _run_selected(made, later, data)
    _targets(made, later, data)
    if later.exit_after and later.is_auto_exit:
        made.end_after(later.exit_after, ("exit_after",))
    elif "exit_after" in data:
        made.say(
            ("exit_after",),
            "0: trackers run until they are stopped" if later.is_auto_exit else "is_auto_exit is false; left out",
        )
    if "is_auto_exit" in data:
        made.say(("is_auto_exit",), "whether exit_after holds")
    _exports(made, later, data)
    _rest(made, later, data)


def _run_selected(made: _Making, later: Later, data: Mapping[str, Any]) -> None:
    if "run_selected" not in data:
        return
    modes = {
        "server": "this file is for `eunomia server`",
        "daemon": "this file is for `eunomia server`, which is a daemon",
        "run": "this file is for `eunomia server`; `eunomia run TRACKER` runs without one",
        "safe": _RULES,
        "seccomp": _SECCOMP,
        "help": "it has no counterpart in a file; left out",
    }
    word = later.run_selected
    made.say(("run_selected",), modes.get(word, f"the original has no mode {word!r}; left out"))


def _targets(made: _Making, later: Later, data: Mapping[str, Any]) -> None:
    _selected(made, later.tracing_selected, later.tracing_target_id)
    for name in ("target_container_id", "target_contaienr_id", "container_id", "container_name"):
        if value := getattr(later, name):
            made.select_container(value, (name,))
        elif name in data:
            made.say((name,), "empty: all containers")
    if later.target_pid:
        made.select_pid(later.target_pid, ("target_pid",))
    elif "target_pid" in data:
        made.say(("target_pid",), "0: all processes")


def _selected(made: _Making, by: str, target: _Name) -> None:
    place: Path = ("tracing_target_id",)
    if by == "pid":
        made.select_pid(target, place)
    elif by == "container_id" and target != "":
        made.select_container(target, place)
    elif by == "container_id":
        made.misfits.append(Misfit(place, "it is empty, and tracing_selected is container_id"))
    elif by == "all":
        made.say(place, "tracing_selected is all; left out" if target else "empty: all rows")
    else:
        made.misfits.append(Misfit(("tracing_selected",), f"'{by[:40]}' is none of all, pid, container_id"))
    made.say(("tracing_selected",), f"{by}: see tracing_target_id")


def _exports(made: _Making, later: Later, data: Mapping[str, Any]) -> None:
    place: Path = ("enabled_export_types",)
    types = later.enabled_export_types
    if later.disable_other_configs:
        made.say(("disable_other_configs",), "fmt, enabled_export_types and enable_container_manager do not hold")
    elif "disable_other_configs" in data:
        made.say(("disable_other_configs",), "false")
    for number, name in enumerate(types or ()):
        made.notes.append(original_tracker.handler_note((*place, number), later.fmt if name == "stdout" else name))
    if types is None and not later.disable_other_configs:
        made.say(place, f"not given: the original prints rows and has metrics. {_METRICS}")
    elif not types and types is not None:
        made.say(place, "empty: rows are there for clients that ask for them")
    if "fmt" in data:
        made.notes.append(original_tracker.handler_note(("fmt",), later.fmt))
    if "enable_container_manager" in data:
        made.say(("enable_container_manager",), "rows always have their container")
    if "prometheus_listening_address" in data:
        made.say(("prometheus_listening_address",), f"{later.prometheus_listening_address!r}: {_METRICS}")


def _rest(made: _Making, later: Later, data: Mapping[str, Any]) -> None:
    for number, rule in enumerate(later.security_rules):
        made.say(("security_rules", number), f"{rule.rule_name!r}: {_RULES}")
    for number, one in enumerate(later.seccomp_data):
        made.say(
            ("seccomp_data", number), f"container {one.container_id!r}, {len(one.allow_syscall)} calls: {_SECCOMP}"
        )
    for name, later_ in (("enable_sec_rule_detect", _RULES), ("enable_seccomp_module", _SECCOMP)):
        if name in data:
            made.say((name,), later_ if getattr(later, name) else "false")
    for name in ("security_rules", "seccomp_data"):
        if name in data and not data[name]:
            made.say((name,), "empty")
    if {"server_host", "server_port"} & data.keys():
        _listen(made, later.server_host, later.server_port, data)
    else:
        made.say(
            ("server_port",),
            'not given: the original listens on localhost:8527; server.listen = ["127.0.0.1:8527"] does, with tokens',
        )


def _listen(made: _Making, host: str, port: int, data: Mapping[str, Any]) -> None:
    names = [name for name in ("server_host", "server_port") if name in data]
    where = "127.0.0.1" if host == "localhost" else host
    try:
        loopback = ipaddress.ip_address(where).is_loopback
    except ValueError:
        loopback = False
    for name in names:
        if not loopback:
            made.say((name,), f"{host}:{port} can be reached from other machines, which needs [server.tls]; left out")
        else:
            made.say((name,), "server.listen; callers need a token: `eunomia token create`")
    if loopback:
        made.server["listen"] = [f"[{where}]:{port}" if ":" in where else f"{where}:{port}"]


# The earlier form


def _earlier(made: _Making, earlier: Earlier, data: Mapping[str, Any]) -> None:
    enabled = earlier.trackers.Enable or earlier.trackers.enable
    spelt = "Enable" if earlier.trackers.Enable else "enable"
    for number, name in enumerate(enabled):
        made.add(Original(name), ("trackers", spelt, number))
    given = data.get("trackers", {})
    if not enabled:
        made.say(("trackers", "Enable"), "no tracker is named")
    if earlier.trackers.container_id:
        made.select_container(earlier.trackers.container_id, ("trackers", "container_id"))
    elif "container_id" in given:
        made.say(("trackers", "container_id"), "all containers")
    if earlier.trackers.process_id:
        made.select_pid(earlier.trackers.process_id, ("trackers", "process_id"))
    elif "process_id" in given:
        made.say(("trackers", "process_id"), "all processes")
    if earlier.trackers.run_time:
        made.end_after(earlier.trackers.run_time, ("trackers", "run_time"))
    elif "run_time" in given:
        made.say(("trackers", "run_time"), "0: trackers run until they are stopped")
    if "fmt" in given:
        made.notes.append(original_tracker.handler_note(("trackers", "fmt"), earlier.trackers.fmt))
    _earlier_exports(made, earlier, data)
    _earlier_rules(made, earlier, data)
    if "seccomp" in data:
        made.say(("seccomp", "allow"), f"{len(earlier.seccomp.allow)} calls: {_SECCOMP}")
    made.notes += _unknown(data, Earlier, but=[*_rules(earlier), *enabled])
    for name in enabled:
        for key in data.get(name, {}) if isinstance(data.get(name), dict) and name not in _rules(earlier) else ():
            made.say((name, key), "it has no counterpart; left out")


def _earlier_exports(made: _Making, earlier: Earlier, data: Mapping[str, Any]) -> None:
    spelt = "Enable" if earlier.exporter.Enable else "enable"
    names = earlier.exporter.Enable or earlier.exporter.enable
    for number, name in enumerate(names):
        made.notes.append(original_tracker.handler_note(("exporter", spelt, number), name))
    if "exporter" in data and not names:
        made.say(("exporter",), "empty: rows are there for clients that ask for them")
    for key in data.get("prometheus", {}):
        if key in _Prometheus.__struct_fields__:
            made.say(("prometheus", key), f"{data['prometheus'][key]!r}: {_METRICS}")
    if "prometheus" in data and not data["prometheus"]:
        made.say(("prometheus",), "empty")


def _rules(earlier: Earlier) -> list[str]:
    return earlier.rules.Enable or earlier.rules.enable


def _earlier_rules(made: _Making, earlier: Earlier, data: Mapping[str, Any]) -> None:
    spelt = "Enable" if earlier.rules.Enable else "enable"
    for number, name in enumerate(_rules(earlier)):
        made.say(("rules", spelt, number), f"{name!r}: {_RULES}")
        table = data.get(name)
        for key in table if isinstance(table, dict) else ():
            made.say((name, key), f"of the rule {name!r}; left out with it")
        if not isinstance(table, dict):
            made.say((name,), "the rule has no table in the file")
    if "rules" in data and not _rules(earlier):
        made.say(("rules",), "empty")


def _unknown(value: Any, kind: Any, path: Path = (), but: Sequence[str] = ()) -> list[str]:
    """Return a sentence for each key that the original does not know either."""
    return [f"{written(one)}: the original has no such key; left out" for one in _strange(value, kind, path, but)]


def _strange(value: Any, kind: Any, path: Path, but: Sequence[str]) -> Iterator[Path]:
    node = kind if not isinstance(kind, type) else msgspec.inspect.type_info(kind)
    inspect = msgspec.inspect
    if isinstance(node, inspect.UnionType):
        node = next((t for t in node.types if isinstance(t, inspect.ListType)), node)
    if isinstance(node, inspect.StructType) and isinstance(value, dict):
        fields = {f.encode_name: f.type for f in node.fields}
        for key, inner in value.items():
            if key in fields:
                yield from _strange(inner, fields[key], (*path, key), ())
            elif key not in but:
                yield (*path, key)
    elif isinstance(node, inspect.ListType) and isinstance(value, list):
        for number, inner in enumerate(value):
            yield from _strange(inner, node.item_type, (*path, number), ())
