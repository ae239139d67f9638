# SPDX-License-Identifier: BSD-2-Clause
"""Serves the API on a Unix socket, and on TCP if asked to."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import socket
import ssl
import stat
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import uvicorn

from eunomia.server import systemd
from eunomia.server.peer import PeerProtocol

_BACKLOG = 128
_THREADS = 16  # that wait for the engine, or load objects
_GRACE = 3  # seconds that requests under way have at the end


class Place(NamedTuple):
    """A socket that listens, and TLS for it."""

    socket: socket.socket
    tls: ssl.SSLContext | None = None


def on_unix(path: Path) -> socket.socket:
    """Listen on a Unix socket that its owner alone may use; raises :class:`OSError`.

    A socket that nobody listens on is taken away; another file in its place is not.
    """
    with contextlib.suppress(FileNotFoundError):
        if not stat.S_ISSOCK(path.lstat().st_mode):
            raise FileExistsError(f"{path} is there, and no socket")
        with socket.socket(socket.AF_UNIX) as probe:
            try:
                probe.connect(str(path))
            except OSError:
                path.unlink()
            else:
                raise FileExistsError(f"a server listens on {path} already")
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o755)
    made = socket.socket(socket.AF_UNIX)
    mask = os.umask(0o177)
    try:
        made.bind(str(path))
    except BaseException:
        made.close()
        raise
    finally:
        os.umask(mask)
    made.listen(_BACKLOG)
    return made


def on_tcp(host: str, port: int) -> socket.socket:
    """Listen on TCP; raises :class:`OSError`."""
    family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
    made = socket.socket(family)
    try:
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        made.bind(address)
        made.listen(_BACKLOG)
    except BaseException:
        made.close()
        raise
    return made


class _Server(uvicorn.Server):
    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave signals to the command line."""
        yield


def _is_news(record: logging.LogRecord) -> bool:
    """Whether a line of uvicorn's log is about a fault: at the end it cancels the streams of those who do not read."""
    cancels = record.exc_info is not None and record.exc_info[0] is asyncio.CancelledError
    return not cancels and not str(record.msg).startswith("Cancel ")


class Listener:
    """Serves an application on some sockets until :meth:`stop`."""

    def __init__(
        self, app: Any, places: Sequence[Place], stopping: Callable[[], None], works: Callable[[], object]
    ) -> None:
        """``stopping`` is called when it begins to stop, and must end what streams.

        ``works`` returns while the engine works; a watchdog that runs is told so.
        """
        logging.getLogger("uvicorn.error").addFilter(_is_news)
        self._servers = [(_server(app, place), place.socket) for place in places]
        self._stopping = stopping
        self._works = works
        self._loop: asyncio.AbstractEventLoop | None = None

    def run(self, ready: Callable[[], None]) -> None:
        """Serve; ``ready`` is called when requests are answered."""
        asyncio.run(self._serve(ready))

    async def _serve(self, ready: Callable[[], None]) -> None:
        self._loop = asyncio.get_running_loop()
        self._loop.set_default_executor(ThreadPoolExecutor(_THREADS, "api"))
        tasks = [asyncio.create_task(server.serve(sockets=[place])) for server, place in self._servers]
        while not all(server.started for server, _ in self._servers) and not any(task.done() for task in tasks):
            await asyncio.sleep(0.005)
        if all(server.started for server, _ in self._servers):
            ready()
        alive = asyncio.create_task(systemd.keep_alive(self._works))
        try:
            await asyncio.gather(*tasks)
        finally:
            alive.cancel()

    def stop(self) -> None:
        """Stop; any thread may call it, and a signal handler."""
        loop = self._loop
        for server, _ in self._servers:
            server.should_exit = True
        if loop is not None:
            loop.call_soon_threadsafe(self._stopping)


def _server(app: Any, place: Place) -> _Server:
    config = uvicorn.Config(
        app,
        http=PeerProtocol,
        ws="wsproto",
        lifespan="off",
        loop="asyncio",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,  # nobody else says where a caller is
        timeout_graceful_shutdown=_GRACE,
        timeout_keep_alive=30,
        h11_max_incomplete_event_size=64 << 10,
        ws_max_size=1 << 20,
        ws_ping_timeout=None,  # the answer of a slow reader comes behind all that it has to read
    )
    config.load()
    if place.tls is not None:
        config.ssl = place.tls
    return _Server(config)
