# SPDX-License-Identifier: BSD-2-Clause
"""HTTP with bounds: so many bytes of an answer, so many seconds for all requests together, no redirects."""

from __future__ import annotations

import ssl
import threading
from collections.abc import Mapping
from contextlib import suppress
from ipaddress import ip_address
from socket import SHUT_RDWR, socket
from urllib.request import getproxies_environment, proxy_bypass_environment  # type: ignore[attr-defined]

from eunomia.oci.errors import RegistryError, need
from eunomia.typing import Any, NamedTuple

try:
    import urllib3
    from urllib3.connection import HTTPConnection, HTTPSConnection
    from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool
except ImportError:
    raise need("urllib3", "a registry") from None

_CONNECT, _READ = 15.0, 30.0  # seconds without any progress
_CHUNK = 1 << 16


class Answer(NamedTuple):
    """A response, read in full; the names of ``headers`` may be given in any case."""

    status: int
    headers: Mapping[str, str]
    body: bytes


class NotTLS(RegistryError):
    """What answers does not speak TLS."""


class Transport:
    """Makes requests until ``seconds`` after it was made; a context manager."""

    def __init__(self, ca_file: str = "", seconds: float = 300) -> None:
        """Trust the system's CAs, and those in ``ca_file`` too."""
        self._seconds = seconds
        self._is_over = False
        self._sockets: list[socket] = []
        self._lock = threading.Lock()
        context = ssl.create_default_context()
        if ca_file:
            try:
                context.load_verify_locations(ca_file)
            except ssl.SSLError:
                raise RegistryError(f"{ca_file}: it is not a CA's certificate in PEM") from None
            except OSError as error:
                raise RegistryError(f"{ca_file}: {error.strerror or error}") from None
        self._context = context
        self._managers: dict[str, urllib3.PoolManager] = {}  # by the proxy's address, empty for none
        self._timer = threading.Timer(seconds, self._end)
        self._timer.daemon = True
        self._timer.start()

    def __enter__(self) -> Transport:
        return self

    def __exit__(self, *exc_info: object) -> None:
        """Close all connections."""
        self._timer.cancel()
        for manager in self._managers.values():
            manager.clear()
        with self._lock:
            for one in self._sockets:
                one.close()
            self._sockets.clear()

    def request(
        self, method: str, url: str, *, headers: Mapping[str, str], most: int, body: bytes | None = None
    ) -> Answer:
        """Make a request; raises :class:`RegistryError` if there is no answer, or one of more than ``most`` bytes."""
        where = _host_of(url)
        if self._is_over:
            raise self._too_late(where)
        response: Any = None
        try:
            response = self._manager(url).request(
                method, url, body=body, redirect=False, preload_content=False,
                headers={"User-Agent": "eunomia", "Accept-Encoding": "identity", **headers},
                timeout=urllib3.Timeout(connect=_CONNECT, read=_READ),
            )  # fmt: skip
            data = bytearray()
            while part := response.read(_CHUNK, decode_content=False):
                data += part
                if len(data) > most:
                    response.close()
                    raise RegistryError(f"{where}: its answer has more than the {most} bytes that are allowed")
            if self._is_over:  # the end of the body may be ours
                raise self._too_late(where)
            answer = Answer(response.status, response.headers, bytes(data))
        except (urllib3.exceptions.HTTPError, OSError, ValueError) as error:
            if response is not None:
                response.close()
            if self._is_over:
                raise self._too_late(where) from None
            raise _reached(where, error) from None
        response.release_conn()
        return answer

    def _manager(self, url: str) -> urllib3.PoolManager:
        """Return what holds the connections: through a proxy if the environment names one for this address."""
        scheme, host = url.partition("://")[0], _host_of(url)
        proxies = getproxies_environment()
        proxy = proxies.get(scheme, "")
        if is_loopback(host.rpartition(":")[0] or host) or proxy_bypass_environment(host, proxies):
            proxy = ""
        if proxy not in self._managers:
            options: dict[str, Any] = {"ssl_context": self._context, "retries": False}
            manager = urllib3.ProxyManager(proxy, **options) if proxy else urllib3.PoolManager(**options)
            manager.pool_classes_by_scheme = _watched_pools(self._watch)
            self._managers[proxy] = manager
        return self._managers[proxy]

    def _too_late(self, where: str) -> RegistryError:
        return RegistryError(f"{where}: it took longer than {self._seconds:g} s")

    def _watch(self, made: socket) -> None:
        # A duplicate: the descriptor of the first goes to TLS, and shutting down one shuts down both.
        with self._lock:
            self._sockets.append(made.dup())
        if self._is_over:
            self._end()

    def _end(self) -> None:
        """Shut all connections down: a peer that sends a byte now and then keeps no read from ending."""
        self._is_over = True
        with self._lock:
            for one in self._sockets:
                with suppress(OSError):
                    one.shutdown(SHUT_RDWR)


def _watched_pools(watch: Any) -> dict[str, type[HTTPConnectionPool]]:
    class Plain(HTTPConnection):
        def _new_conn(self) -> socket:
            made: socket = super()._new_conn()
            watch(made)
            return made

    class Secure(HTTPSConnection):
        def _new_conn(self) -> socket:
            made: socket = super()._new_conn()
            watch(made)
            return made

    class PlainPool(HTTPConnectionPool):
        ConnectionCls = Plain

    class SecurePool(HTTPSConnectionPool):
        ConnectionCls = Secure

    return {"http": PlainPool, "https": SecurePool}


def is_loopback(host: str) -> bool:
    """Whether a host is this machine: no proxy is asked for it, and TLS may be missing."""
    if host == "localhost":
        return True
    try:
        return ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def _host_of(url: str) -> str:
    return url.partition("://")[2].partition("/")[0]


def _reached(where: str, error: Exception) -> RegistryError:
    """Return the error for a request without an answer."""
    cause = next((one for one in (*error.args, error.__cause__) if isinstance(one, ssl.SSLError)), None)
    if isinstance(cause, ssl.SSLCertVerificationError):
        reason = cause.verify_message or str(cause)
        return RegistryError(f"{where}: its certificate is not trusted: {reason}; --ca-file FILE names another CA")
    if cause is not None:
        return NotTLS(f"{where}: no TLS: {cause.reason or cause}; --plain-http talks to a registry without TLS")
    if isinstance(error, urllib3.exceptions.NameResolutionError):
        return RegistryError(f"{where}: there is no host of that name")
    if isinstance(error, urllib3.exceptions.TimeoutError) and not isinstance(
        error, urllib3.exceptions.NewConnectionError
    ):
        return RegistryError(f"{where}: it does not answer")
    if isinstance(error, urllib3.exceptions.NewConnectionError):
        return RegistryError(f"{where}: cannot connect: {str(error).rpartition('] ')[2] or error}")
    return RegistryError(f"{where}: the connection broke: {str(error)[:200]}")
