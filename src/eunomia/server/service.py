# SPDX-License-Identifier: BSD-2-Clause
"""The server as a whole: its state, its hub, and who may call it, put together from a configuration."""

from __future__ import annotations

import contextlib
import grp
import os
import pwd
import socket
import ssl
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

from eunomia.faults import Faults
from eunomia.server import config as configuration
from eunomia.server import systemd
from eunomia.server.app import application
from eunomia.server.asgi import Application
from eunomia.server.audit import AuditLog
from eunomia.server.auth import Authentication
from eunomia.server.config import Config, Declared
from eunomia.server.hub import Entry, Hub
from eunomia.server.limits import Bounds, Limits
from eunomia.server.metrics import Answers
from eunomia.server.models import TrackerPatch
from eunomia.server.problems import ApiError
from eunomia.server.routes import OPEN
from eunomia.server.serve import Listener, Place, on_tcp, on_unix
from eunomia.server.state import Entry as Kept
from eunomia.server.state import State, StateError
from eunomia.server.tokens import Tokens

_SOON = 0.01  # seconds
_OTHERS = ("run",)  # scopes of the users of the socket's group


class Service(NamedTuple):
    """A server that is ready to serve."""

    hub: Hub
    listener: Listener
    where: list[str]  # it listens


@contextlib.contextmanager
def service(
    config: Config, faults: Faults, say: Callable[[str], None], opened: Callable[[], None] = lambda: None
) -> Iterator[Service]:
    """Open the state, start the engine and what is to run, and listen; free it all at the end.

    ``opened`` is called when files and sockets are open, and before there are other threads.
    Raises :class:`OSError`, :class:`StateError`, and what starting the engine raises.
    """
    server = config.server
    with contextlib.ExitStack() as stack:
        state = stack.enter_context(contextlib.closing(State(server.state, server.limits.objects)))
        for sentence in state.said:
            say(sentence)
        audit = stack.enter_context(contextlib.closing(AuditLog(Path(server.state) / "audit")))
        tokens = stack.enter_context(contextlib.closing(Tokens(Path(server.tokens or server.state))))
        places, where = _places(config, stack)
        hub = Hub(
            state.objects, faults=faults, interval=server.interval, most=server.limits.trackers,
            kept=lambda entry: _written(lambda: state.put(_kept(entry))),
            forgotten=lambda entry: _written(lambda: state.remove(entry.id)),
        )  # fmt: skip
        opened()
        stack.enter_context(hub)
        _run_again(hub, state, say)
        _declare(hub, config.trackers, say)
        answers = Answers()
        api: Application = application(hub, audit, answers, lambda digest: _accept(server, digest))
        bounds = _bounds(server.limits)
        api = Authentication(
            Limits(api, bounds), tokens, uids=dict.fromkeys(_members(server.group), _OTHERS), open_paths=OPEN,
            faults=faults,
        )  # fmt: skip
        audit.append({"kind": "server", "pid": os.getpid()}, "server.start", "", "done")
        listener = Listener(answers.around(api), places, hub.end_streams, works=lambda: hub.do(lambda: None))
        hub.failed = listener.stop
        yield Service(hub, listener, where)
        audit.append({"kind": "server", "pid": os.getpid()}, "server.stop", "", "done")


def _bounds(limits: configuration.Limits) -> Bounds:
    return Bounds(
        limits.body, {"/v1/objects": limits.object}, limits.body_seconds, limits.rate, limits.burst, limits.requests,
        limits.requests_each,
    )  # fmt: skip


def _accept(server: configuration.Server, digest: str) -> None:
    """Raise :class:`ApiError` if an object may not run here."""
    if server.require_signed:
        why = "objects must be signed here, and signatures cannot be sent over the API yet"
        raise ApiError(403, why, field="object")
    if server.allow and not any(entry.rpartition("@")[2] == digest for entry in server.allow):
        raise ApiError(403, f"{digest} is not on the list of what may run here", field="object")


# Where it listens


def _places(config: Config, stack: contextlib.ExitStack) -> tuple[list[Place], list[str]]:
    server, where = config.server, []
    activated = systemd.sockets()
    places = [Place(stack.enter_context(one)) for one in activated if one.family == socket.AF_UNIX]
    where += [str(place.socket.getsockname()) for place in places]
    if server.socket and not places:
        path = Path(server.socket)
        made = on_unix(path)
        stack.callback(made.close)
        stack.callback(_unlink, path)
        if server.group:
            os.chown(path, -1, grp.getgrnam(server.group).gr_gid)
            path.chmod(0o660)
        places.append(Place(made))
        where.append(str(path))
    tls = _tls(config)
    for word in server.listen:
        host, port = configuration.address(word)
        made = on_tcp(host, port)
        stack.callback(made.close)
        places.append(Place(made, tls))
        where.append(f"{'https' if tls else 'http'}://{word}")
    return places, where


def _unlink(path: Path) -> None:
    with contextlib.suppress(OSError):
        path.unlink()


def _tls(config: Config) -> ssl.SSLContext | None:
    files = config.server.tls
    if files is None or not config.server.listen:
        return None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    try:
        context.load_cert_chain(files.certificate, files.key)
    except ssl.SSLError as error:
        raise OSError(f"{files.certificate}, {files.key}: no certificate with its key: {error.reason}") from None
    return context


def _members(group: str) -> list[int]:
    """Return the ids of a group's users."""
    if not group:
        return []
    found = grp.getgrnam(group)
    named = [pwd.getpwnam(name).pw_uid for name in found.gr_mem]
    return sorted({*named, *(user.pw_uid for user in pwd.getpwall() if user.pw_gid == found.gr_gid)})


# What runs again


def _written(change: Callable[[], None]) -> None:
    """Change the state; a client is told if that failed."""
    try:
        change()
    except StateError as error:
        raise ApiError(500, f"{error}; after a restart the server runs what was written before") from None


def _kept(entry: Entry) -> Kept:
    return Kept(entry.id, entry.request, entry.started, entry.current.number, list(entry.history), entry.stops)


def _run_again(hub: Hub, state: State, say: Callable[[str], None]) -> None:
    """Start the trackers that ran when the server ended; one that cannot is reported, and stays in the state."""
    for kept in state.entries:
        if kept.stops and _seconds_until(kept.stops) <= 0:
            say(f"tracker {kept.id} was to stop at {kept.stops}, and does not run again")
            state.remove(kept.id)
            continue
        at = next((n for n, g in enumerate(kept.generations) if g.number == kept.generation), 0)
        try:
            entry = hub.begin(kept.request, kept.generations, at)
            entry.started = kept.started
            left = max(_seconds_until(kept.stops), _SOON) if kept.stops else 0.0
            hub.patch(entry.id, TrackerPatch(duration=left))
        except ApiError as error:
            say(f"tracker {kept.id}, which ran before, could not be started: {error}")


def _seconds_until(time: str) -> float:
    return (datetime.fromisoformat(time) - datetime.now(UTC)).total_seconds()


def _declare(hub: Hub, declared: list[Declared], say: Callable[[str], None]) -> None:
    """Have the trackers of the configuration run as it says; others that run go on."""
    for one in declared:
        there = hub.entries.get(one.id)
        try:
            request = one.request(_stored(hub, one))
            if there is not None and there.state == "running":
                if there.request == request:
                    continue
                hub.stop(one.id)
            hub.begin(request)
        except ApiError as error:
            say(f"tracker {one.id} could not be started: {error.field and error.field + ': '}{error}")
        except OSError as error:
            say(f"tracker {one.id} could not be started: {one.object}: {error.strerror}")


def _stored(hub: Hub, declared: Declared) -> str:
    if not declared.object or declared.object.startswith("sha256:"):
        return declared.object
    if not configuration.is_file(declared.object):
        raise ApiError(422, "objects of registries are started by `eunomia start`", field="object")
    return hub.objects.put(Path(declared.object).read_bytes())
