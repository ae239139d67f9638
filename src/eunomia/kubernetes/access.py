# SPDX-License-Identifier: BSD-2-Clause
"""Access to a Kubernetes API server: the official client's configuration, credentials and TLS.

The client's models are not used: importing one API class costs 28 MB of resident memory, and each pod becomes some
hundred objects. Requests go through the client's connection pool instead, and :mod:`objects` reads the answers.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress

from eunomia.kubernetes.objects import message_of
from eunomia.typing import Any, Protocol

PAGE_LIMIT = 64 << 20  # bytes of one answer that are read
_ERROR_LIMIT = 1 << 16
_CHUNK = 1 << 16
_CONNECT = 5.0  # seconds
_AGENT = "eunomia"
_TOKEN = "/var/run/secrets/kubernetes.io/serviceaccount/token"  # noqa: S105
MISSING = "the Kubernetes client is not installed: pip install 'eunomia[kubernetes]'"


class Unusable(Exception):
    """The configuration cannot be used; the text is a sentence for the user."""


class Refused(Exception):
    """The API server answered with an error; ``status`` is the HTTP status, ``after`` its Retry-After in seconds."""

    def __init__(self, status: int, message: str, after: float = 0.0) -> None:
        super().__init__(message)
        self.status = status
        self.after = after


class Unreachable(Exception):
    """No answer, or an incomplete one."""


class TooLong(Exception):
    """An answer of more than :data:`PAGE_LIMIT` bytes."""


class Answer(Protocol):
    """A successful answer; close it, from any thread."""

    def read(self) -> bytes | bytearray:
        """Return the whole body; raises :class:`Unreachable`, :class:`TooLong`."""

    def chunks(self) -> Iterator[bytes]:
        """Yield pieces as they come; raises :class:`Unreachable` if the connection breaks."""

    def close(self) -> None:
        """Close the connection; a reader in another thread ends."""


class Api(Protocol):
    """Requests to an API server."""

    def get(self, path: str, query: Mapping[str, str], seconds: float, silent: float = 0.0) -> Answer:
        """GET a path; ``seconds`` is the read timeout, ``silent`` another one once the answer has begun.

        Raises :class:`Refused`, :class:`Unreachable`.
        """


class Access:
    """An :class:`Api` that uses the official client; thread-safe."""

    def __init__(self, kubeconfig: str = "", context: str = "") -> None:
        """Read the configuration: ``kubeconfig`` if given, else the pod's own, $KUBECONFIG, ~/.kube/config.

        Raises :class:`Unusable`.
        """
        self._kubeconfig = kubeconfig
        self._context = context
        self._open()

    def _open(self) -> None:
        try:
            from kubernetes import client, config
            from kubernetes.client import rest
        except ImportError:
            raise Unusable(MISSING) from None
        made: Any = client.Configuration()
        load: Any = config
        with _logged_errors() as logged:
            try:
                if not self._kubeconfig and in_cluster():
                    load.load_incluster_config(made)
                else:
                    path = self._kubeconfig or _default()
                    load.load_kube_config(path, self._context or None, made, persist_config=False)
                pool = rest.RESTClientObject(made).pool_manager
            except Exception as error:  # the client raises any of its parsers' errors
                raise Unusable(self._why(error)) from None
        if logged:  # of a credential plugin: the client would continue without credentials
            raise Unusable(self._why(Unusable(logged[0])))
        if not made.verify_ssl:  # set in the kubeconfig; the library would warn with each request
            import urllib3

            urllib3.disable_warnings(urllib3.exceptions.InsecureRequestWarning)
        pool.connection_pool_kw["socket_options"] = _keepalive()
        self._configuration = made
        self._pool = pool

    def _why(self, error: Exception) -> str:
        text = " ".join(str(error).split())[:300] or type(error).__name__
        if not self._kubeconfig and in_cluster():
            return f"the pod's service account cannot be used: {text}"
        path = self._kubeconfig or _default()
        if not os.path.exists(path.split(os.pathsep)[0]):
            return f"there is no kubeconfig {path}: name one with --kubeconfig or $KUBECONFIG"
        return f"kubeconfig {path}: {text}"

    @property
    def server(self) -> str:
        """The API server's address."""
        return str(self._configuration.host)

    def get(self, path: str, query: Mapping[str, str], seconds: float, silent: float = 0.0) -> Answer:
        """GET a path; see :class:`Api`."""
        from urllib.parse import urlencode

        import urllib3

        headers = {"Accept": "application/json", "User-Agent": _AGENT}
        try:
            with _logged_errors():  # of a plugin without new credentials: the old ones may still be valid
                settings = self._configuration.auth_settings()
            for setting in settings.values():
                if setting["in"] == "header" and setting["value"]:
                    headers[setting["key"]] = setting["value"]
            url = self.server.rstrip("/") + path + ("?" + urlencode(query) if query else "")
            timeout = urllib3.Timeout(connect=_CONNECT, read=seconds)
            response = self._pool.request(
                "GET", url, headers=headers, preload_content=False, timeout=timeout, retries=False, redirect=False
            )
        except Exception as error:  # of sockets, TLS, the pool, a credential plugin
            if isinstance(error, urllib3.exceptions.SSLError):
                self._renew()
            raise Unreachable(_reason(error)) from None
        answer = _HttpAnswer(response)
        if response.status == 200:
            if silent:
                answer.set_timeout(silent)
            return answer
        try:
            text = message_of(answer.read(_ERROR_LIMIT))
        except (Unreachable, TooLong):
            text = ""
        finally:
            answer.close()
        if response.status == 401:
            self._renew()
        raise Refused(response.status, text or str(response.reason or ""), _after(response.headers))

    def _renew(self) -> None:
        """Read the configuration again: credentials or certificates may have been replaced on disk."""
        try:
            self._open()
        except Unusable as error:
            raise Unreachable(str(error)) from None


class _HttpAnswer:
    def __init__(self, response: Any) -> None:
        self._response = response

    def read(self, limit: int = 0) -> bytearray:
        limit = limit or PAGE_LIMIT
        data = bytearray()
        for chunk in self.chunks():
            data += chunk
            if len(data) > limit:
                raise TooLong(f"an answer of more than {limit} bytes")
        self._response.release_conn()
        return data

    def chunks(self) -> Iterator[bytes]:
        try:
            yield from self._response.stream(_CHUNK, decode_content=True)
        except Exception as error:  # also the client's errors after another thread has closed the socket
            raise Unreachable(_reason(error)) from None

    def set_timeout(self, seconds: float) -> None:
        """Set the read timeout from now on."""
        with suppress(Exception):
            if (sock := self._socket()) is not None:
                sock.settimeout(seconds)

    def close(self) -> None:
        import socket

        with suppress(Exception):
            if (sock := self._socket()) is not None:
                sock.shutdown(socket.SHUT_RDWR)  # wakes its reader
        with suppress(Exception):
            self._response.close()

    def _socket(self) -> Any:
        return getattr(getattr(self._response, "connection", None), "sock", None)


def in_cluster() -> bool:
    """Whether this process runs in a pod with access to its API server."""
    return bool(os.environ.get("KUBERNETES_SERVICE_HOST")) and os.path.exists(_TOKEN)


@contextmanager
def _logged_errors() -> Iterator[list[str]]:
    """Collect errors that the client logs, which would go to stderr otherwise."""
    import logging

    said: list[str] = []
    handler = logging.Handler(logging.ERROR)
    handler.emit = lambda record: said.append(record.getMessage())  # type: ignore[method-assign]
    root = logging.getLogger()
    root.addHandler(handler)
    try:
        yield said
    finally:
        root.removeHandler(handler)


def _default() -> str:
    return os.environ.get("KUBECONFIG") or os.path.expanduser("~/.kube/config")


def _keepalive() -> list[tuple[int, int, int]]:
    """Return socket options that detect within a minute that the peer of a silent watch is gone."""
    import socket

    return [
        (socket.IPPROTO_TCP, socket.TCP_NODELAY, 1),
        (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1),
        (socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 30),
        (socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, 10),
        (socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 3),
    ]


def _reason(error: BaseException) -> str:
    """Return the innermost cause, which is the most informative."""
    while (inner := getattr(error, "reason", None) or error.__cause__) and isinstance(inner, BaseException):
        error = inner
    return " ".join(str(error).split())[:300] or type(error).__name__


def _after(headers: Mapping[str, str]) -> float:
    try:
        return max(0.0, min(60.0, float(headers.get("Retry-After") or 0)))
    except ValueError:
        return 0.0
