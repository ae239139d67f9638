# SPDX-License-Identifier: BSD-2-Clause
"""The server's file: how it is reached, what it allows, and the trackers that it runs.

TOML of the form in docs/configuration.md. The original's files, JSON or TOML, are read too, and translated.
"""

from __future__ import annotations

import ipaddress
import json
import os
import stat
import tomllib
from collections.abc import Iterator, Sequence
from typing import Annotated, Any, NamedTuple

import msgspec
from msgspec import Meta, Struct

from eunomia.containers.selectors import Selectors
from eunomia.server import original_config
from eunomia.server.misfits import Misfit, Path, fitted, unknown
from eunomia.server.models import Filters, Id, Text, TrackerRequest
from eunomia.server.toml_lines import line_of

LARGEST = 1 << 20  # bytes of a file
_SOCKET_PATH = 107  # bytes of a Unix socket's path
_PORTS = 1 << 16
_MOST = 4096  # trackers
_SAID = 100  # mistakes
_NEEDS_TLS = "give the server [server.tls], or listen on 127.0.0.1"


class Tls(Struct, forbid_unknown_fields=True, omit_defaults=True):
    """The files of the server's certificate, with those above it, and of its key."""

    certificate: Text
    key: Text


class Limits(Struct, forbid_unknown_fields=True, omit_defaults=True):
    """The most that callers may ask for. A caller is a token, or a user of the Unix socket.

    ``rate`` is in requests of a caller per second, for longer than ``burst`` requests; ``requests`` are those at a
    time, of all callers, with streams that are read. ``body`` and ``object`` are bytes of a request, ``objects`` those
    of all objects that are kept.
    """

    trackers: Annotated[int, Meta(ge=1, le=4096)] = 256
    rate: Annotated[float, Meta(ge=0.1, le=1e6)] = 50
    burst: Annotated[float, Meta(ge=1, le=1e6)] = 200
    requests: Annotated[int, Meta(ge=1, le=65536)] = 1024
    requests_each: Annotated[int, Meta(ge=1, le=65536)] = 512
    body: Annotated[int, Meta(ge=1024, le=1 << 30)] = 1 << 20
    body_seconds: Annotated[float, Meta(ge=1, le=3600)] = 60
    object: Annotated[int, Meta(ge=1024, le=64 << 20)] = 64 << 20
    objects: Annotated[int, Meta(ge=1 << 20, le=1 << 40)] = 256 << 20


class Server(Struct, forbid_unknown_fields=True, omit_defaults=True):
    """How the server is reached, where it keeps what it must remember, and what it allows."""

    socket: str = "/run/eunomia/eunomia.sock"
    group: str = ""
    listen: Annotated[list[Text], Meta(max_length=16)] = []
    tls: Tls | None = None
    tokens: str = ""
    state: Text = "/var/lib/eunomia"
    interval: Annotated[float, Meta(ge=0.01, le=86400)] = 1
    pin: bool = False
    require_signed: bool = False
    allow: Annotated[list[Text], Meta(max_length=4096)] = []
    limits: Limits = msgspec.field(default_factory=Limits)


class Declared(TrackerRequest, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """A tracker that the file declares: as in a request, but ``id`` is required and ``object`` is a file.

    ``object`` may also be ``oci://REGISTRY/NAME:TAG`` or a digest.
    """

    id: Id
    object: Annotated[str, Meta(max_length=4096)] = ""

    def request(self, digest: str = "") -> TrackerRequest:
        """Return the request to start it; ``digest`` is that of its object."""
        return TrackerRequest(**{**msgspec.structs.asdict(self), "object": digest})


class Config(Struct, forbid_unknown_fields=True, omit_defaults=True):
    """All that a file says."""

    server: Server = msgspec.field(default_factory=Server)
    trackers: Annotated[list[Declared], Meta(max_length=_MOST)] = []


class Read(NamedTuple):
    """A file that was read. If it was the original's, ``translated`` is it as TOML, and ``notes`` say what changed."""

    config: Config
    translated: str = ""
    notes: tuple[str, ...] = ()


class ConfigError(ValueError):
    """A file that cannot be used; each of ``problems`` is a sentence that begins with the file's name."""

    def __init__(self, problems: Sequence[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = list(problems)


def read(path: str) -> Read:
    """Return what a file says; raises :class:`ConfigError` with all that is wrong in it.

    Paths in it are relative to its directory.
    """
    text = _text(path)
    data = _parsed(path, text)
    translated = ""
    notes: tuple[str, ...] = ()
    lines: str | None = text if _is_toml(path, text) else None
    if original_config.is_original(data):
        original, misfits = original_config.translate(data)
        _refuse(path, lines, misfits)
        data, translated, notes = original.data, original.text, tuple(map(str, original.notes))
        lines = None
    server, trackers, misfits = _fitted(data)
    _refuse(path, lines, [*misfits, *_contradictions(server, trackers)])
    config = msgspec.convert(data, Config)
    return Read(_resolved(config, os.path.dirname(os.path.abspath(path))), translated, notes)


def check(path: str) -> list[str]:
    """Return all that is wrong with a file, and with the files that it names; empty if the server can use it."""
    try:
        found = read(path).config
    except ConfigError as error:
        return error.problems
    return [f"{path}: {misfit}" for misfit in _absent(found)]


def _text(path: str) -> str:
    try:
        data = _bytes(path)
    except OSError as error:
        raise ConfigError([f"{path}: {error.strerror}"]) from None
    if len(data) > LARGEST:
        raise ConfigError([f"{path}: it has more than {LARGEST >> 20} MiB"])
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        raise ConfigError([f"{path}:{line}: it is not UTF-8"]) from None


def _bytes(path: str) -> bytes:
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY)
    try:
        about = os.fstat(descriptor)
        if not stat.S_ISREG(about.st_mode):
            raise ConfigError([f"{path}: it is not a regular file"])
        if about.st_mode & stat.S_IWOTH:
            raise ConfigError([f"{path}: everybody may change it, and what it says runs in the kernel: chmod o-w it"])
        with open(descriptor, "rb", closefd=False) as file:
            return file.read(LARGEST + 1)
    finally:
        os.close(descriptor)


def _is_toml(path: str, text: str) -> bool:
    return not path.endswith(".json") and not text.lstrip().startswith("{")


def _parsed(path: str, text: str) -> dict[str, Any]:
    try:
        if _is_toml(path, text):
            return tomllib.loads(text)
        data = json.loads(text, object_pairs_hook=_once)
    except tomllib.TOMLDecodeError as error:
        sentence, _, place = str(error).rpartition(" (at ")
        line, _, column = place.rstrip(")").removeprefix("line ").partition(", column ")
        where, behind = (f"{path}:{line}", f" (column {column})") if line.isdigit() else (path, f" at the {line}")
        raise ConfigError([f"{where}: not TOML: {sentence[:1].lower()}{sentence[1:]}{behind}"]) from None
    except json.JSONDecodeError as error:
        raise ConfigError([f"{path}:{error.lineno}: not JSON: {error.msg} (column {error.colno})"]) from None
    except _Twice as error:
        raise ConfigError([f"{path}: {str(error)!r} is given twice"]) from None
    except RecursionError:
        raise ConfigError([f"{path}: it has lists or tables in each other that are too many"]) from None
    except ValueError:
        raise ConfigError([f"{path}: it has a number of thousands of digits"]) from None
    if not isinstance(data, dict):
        raise ConfigError([f"{path}: it is not a JSON object"])
    return data


class _Twice(Exception):
    """A key that JSON has twice, of which one would be dropped."""


def _once(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in pairs:
        if key in found:
            raise _Twice(key)
        found[key] = value
    return found


def _refuse(path: str, text: str | None, misfits: Sequence[Misfit]) -> None:
    if misfits:
        placed = [(line_of(text, misfit.path) if text is not None else None, misfit) for misfit in misfits]
        placed.sort(key=lambda one: one[0] or 0)
        said = [f"{path}{f':{line}' if line else ''}: {misfit}" for line, misfit in placed]
        more = [f"{path}: and {len(said) - _SAID} more"] if len(said) > _SAID else []
        raise ConfigError([*said[:_SAID], *more])


def _fitted(data: dict[str, Any]) -> tuple[Server, dict[int, Declared], list[Misfit]]:
    """Return the parts of a file that fit, and what does not: a mistake in one part hides none in others."""
    trackers = data.get("trackers", [])
    listed = trackers if isinstance(trackers, list) else []
    top = {**data, "server": {}, "trackers": trackers if trackers is not listed or len(listed) > _MOST else []}
    _, misfits = fitted(top, Config)
    server, found = fitted(data.get("server", {}), Server, ("server",))
    misfits += found
    fits: dict[int, Declared] = {}
    for number, value in enumerate(listed[:_MOST]):
        tracker, found = fitted(value, Declared, ("trackers", number))
        misfits += found
        if tracker is not None:
            fits[number] = tracker
    return server or Server(), fits, misfits


def _contradictions(server: Server, trackers: dict[int, Declared]) -> Iterator[Misfit]:
    """Yield what each value allows and all together do not."""
    yield from _of_server(server)
    ids: dict[str, int] = {}
    files: dict[str, str] = {}
    for number, tracker in trackers.items():
        at: Path = ("trackers", number)
        if tracker.id in ids:
            yield Misfit((*at, "id"), f"'{tracker.id}' is the id of trackers[{ids[tracker.id]}] too")
        ids.setdefault(tracker.id, number)
        yield from _of_tracker(tracker, at)
        for place, output in enumerate(tracker.outputs):
            file = os.path.normpath(output.file)
            if file in files:
                yield Misfit((*at, "outputs", place, "file"), f"'{output.file}' is written to by {files[file]} too")
            files.setdefault(file, f"trackers[{number}].outputs[{place}]")


def _of_server(server: Server) -> Iterator[Misfit]:
    at: Path = ("server",)
    if not server.socket and not server.listen:
        yield Misfit((*at, "socket"), "it is empty, and so is listen: the server could not be reached")
    if server.socket and not os.path.isabs(server.socket):
        yield Misfit((*at, "socket"), f"'{server.socket}' does not begin with a slash")
    if len(os.fsencode(server.socket)) > _SOCKET_PATH:
        yield Misfit((*at, "socket"), f"a socket's path has at most {_SOCKET_PATH} bytes")
    if not os.path.isabs(server.state):
        yield Misfit((*at, "state"), f"'{server.state}' does not begin with a slash")
    for number, word in enumerate(server.listen):
        place: Path = (*at, "listen", number)
        try:
            host, _ = address(word)
        except ValueError as error:
            yield Misfit(place, str(error))
            continue
        if server.tls is None and not is_loopback(host):
            yield Misfit(place, f"'{word}' can be reached from other machines: {_NEEDS_TLS}")
        if word in server.listen[:number]:
            yield Misfit(place, f"'{word}' is there twice")


def address(word: str) -> tuple[str, int]:
    """Return host and port of ``HOST:PORT`` or ``[IPV6]:PORT``. Raises :class:`ValueError`."""
    host, colon, digits = word.rpartition(":")
    inside = host.removeprefix("[").removesuffix("]")
    if not colon or not inside or (":" in host and host != f"[{inside}]"):
        raise ValueError(f"'{word}' is not of the form ADDRESS:PORT, as in 127.0.0.1:8527 or [::1]:8527")
    if not (digits.isascii() and digits.isdigit() and 0 < int(digits[:6]) < _PORTS):
        raise ValueError(f"'{word}': the port is a number from 1 to {_PORTS - 1}")
    return inside, int(digits)


def is_loopback(host: str) -> bool:
    """Return whether an address is reached from this machine alone; a name is not known to be, except localhost."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _of_tracker(tracker: Declared, at: Path) -> Iterator[Misfit]:
    if not tracker.kind and not tracker.object:
        yield Misfit(at, 'it names neither a kind, as in kind = "process", nor an object')
    if tracker.kind and tracker.object:
        yield Misfit((*at, "object"), "it excludes kind: an object is a tracker by itself")
    if tracker.kind and (known := _kinds(tracker.kind)):
        yield Misfit((*at, "kind"), unknown(tracker.kind, known))
    yield from _of_filters(tracker.filters, (*at, "filters"))
    if 0 < tracker.coalesce < 0.01:
        yield Misfit((*at, "coalesce"), f"{tracker.coalesce} is less than 0.01 seconds")
    if tracker.kind:
        for name in ("programs", "skip_programs", "attach", "events"):
            if getattr(tracker, name):
                yield Misfit((*at, name), f"it is for objects; {tracker.kind} is a tracker, which chooses that itself")


def _kinds(name: str) -> list[str]:
    """Return the known trackers if a name is not one of them."""
    from eunomia import tracker

    if tracker.find(name) is not None:
        return []
    return [found.name for found in tracker.every()]


def _of_filters(filters: Filters, at: Path) -> Iterator[Misfit]:
    selected = [name for name in Selectors._fields if getattr(filters, name)]
    if filters.host_only and (filters.containers_only or selected):
        other = "containers_only" if filters.containers_only else selected[0]
        yield Misfit((*at, "host_only"), f"it excludes {other}: the host is in no container")
    for name in selected:
        for number, word in enumerate(getattr(filters, name)):
            try:
                Selectors(**{name: (word,)}).match()
            except ValueError as error:
                yield Misfit((*at, name, number), str(error).partition(": ")[2])


def _resolved(config: Config, directory: str) -> Config:
    """Return the same with paths that do not depend on the directory in which the server was started."""

    def absolute(path: str) -> str:
        return os.path.join(directory, path) if path else ""

    tls = config.server.tls and Tls(absolute(config.server.tls.certificate), absolute(config.server.tls.key))
    server = msgspec.structs.replace(config.server, tls=tls, tokens=absolute(config.server.tokens))
    trackers = []
    for tracker in config.trackers:
        outputs = [msgspec.structs.replace(o, file=absolute(o.file)) for o in tracker.outputs]
        object_ = absolute(tracker.object) if is_file(tracker.object) else tracker.object
        trackers.append(msgspec.structs.replace(tracker, outputs=outputs, object=object_))
    return Config(server, trackers)


def is_file(object_: str) -> bool:
    """Return whether a declared object is a file, and not a digest or in a registry."""
    return bool(object_) and not object_.startswith(("oci://", "sha256:"))


def _absent(config: Config) -> Iterator[Misfit]:
    """Yield the files that a configuration names and that are not there."""
    if (tls := config.server.tls) is not None:
        for name, path in (("certificate", tls.certificate), ("key", tls.key)):
            yield from _unreadable(path, ("server", "tls", name))
    if config.server.group and not _has_group(config.server.group):
        yield Misfit(("server", "group"), f"there is no group '{config.server.group}' on this machine")
    for number, tracker in enumerate(config.trackers):
        at: Path = ("trackers", number)
        if is_file(tracker.object):
            yield from _unreadable(tracker.object, (*at, "object"))
        for place, output in enumerate(tracker.outputs):
            if not os.path.isdir(directory := os.path.dirname(output.file)):
                yield Misfit((*at, "outputs", place, "file"), f"there is no directory {directory}")


def _unreadable(path: str, at: Path) -> Iterator[Misfit]:
    try:
        os.close(os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK))
    except OSError as error:
        yield Misfit(at, f"{path}: {error.strerror}")
        return
    if not os.path.isfile(path):
        yield Misfit(at, f"{path}: it is not a regular file")


def _has_group(name: str) -> bool:
    import grp

    try:
        grp.getgrnam(name)
    except KeyError:
        return False
    return True
