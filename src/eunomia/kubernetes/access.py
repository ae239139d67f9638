# SPDX-License-Identifier: BSD-2-Clause
"""The way to a Kubernetes API server: the official client's configuration, credentials and TLS.

Its models are left out: importing one API class costs 28 MB of resident memory, and each pod becomes some
hundred objects. Requests go through the client's own connection pool instead, and :mod:`objects` reads the answers.
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
    """The configuration leads nowhere; the text is a sentence for the user."""


class Refused(Exception):
    """The API server answered with an error; ``status`` is HTTP's, ``after`` the pause it asks for, in seconds."""

    def __init__(self, status: int, message: str, after: float = 0.0) -> None:
        super().__init__(message)
        self.status = status
        self.after = after


class Unreachable(Exception):
    """No answer, or one that broke off."""


class TooLong(Exception):
    """An answer of more than :data:`PAGE_LIMIT` bytes."""


class Answer(Protocol):
    """A successful answer; close it, from any thread."""

    def read(self) -> bytes | bytearray:
        """Return all of it; raises :class:`Unreachable`, :class:`TooLong`."""

    def chunks(self) -> Iterator[bytes]:
        """Yield pieces as they come; raises :class:`Unreachable` when it breaks off."""

    def close(self) -> None:
        """Let go of the connection; a reader in another thread ends."""


class Api(Protocol):
    """What the followers ask of an API server."""

    def get(self, path: str, query: Mapping[str, str], seconds: float, silent: float = 0.0) -> Answer:
        """GET a path; ``seconds`` is how long an answer may take to begin, and to go on unless ``silent`` is given.

        Raises :class:`Refused`, :class:`Unreachable`.
        """


class Access:
    """An :class:`Api` by way of the official client; may be used by several threads."""

    def __init__(self, kubeconfig: str = "", context: str = "") -> None:
        """Read the configuration: ``kubeconfig`` where given, else the pod's own, $KUBECONFIG, ~/.kube/config.

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
        with _complaints() as complaints:
            try:
                if not self._kubeconfig and in_cluster():
                    load.load_incluster_config(made)
                else:
                    path = self._kubeconfig or _default()
                    load.load_kube_config(path, self._context or None, made, persist_config=False)
                pool = rest.RESTClientObject(made).pool_manager
            except Exception as error:  # the client raises whatever its parsers do
                raise Unusable(self._why(error)) from None
        if complaints:  # a credential plugin's: the client would go on as nobody
            raise Unusable(self._why(Unusable(complaints[0])))
        if not made.verify_ssl:  # which the kubeconfig says; the library would say it with each request
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
            with _complaints():  # of a plugin that gives no new credentials: the old ones may do yet
                settings = self._configuration.auth_settings()
            for setting in settings.values():
                if setting["in"] == "header" and setting["value"]:
                    headers[setting["key"]] = setting["value"]
            url = self.server.rstrip("/") + path + ("?" + urlencode(query) if query else "")
            timeout = urllib3.Timeout(connect=_CONNECT, read=seconds)
            response = self._pool.request(
                "GET", url, headers=headers, preload_content=False, timeout=timeout, retries=False, redirect=False
            )
        except Exception as error:  # sockets', TLS's, the pool's, a credential plugin's
            if isinstance(error, urllib3.exceptions.SSLError):
                self._renew()
            raise Unreachable(_reason(error)) from None
        answer = _HttpAnswer(response)
        if response.status == 200:
            if silent:
                answer.bear(silent)
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
        """Read the configuration again: its credentials or authorities may have been replaced on disk."""
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
        except Exception as error:  # also what a closed socket of another thread makes of the client
            raise Unreachable(_reason(error)) from None

    def bear(self, seconds: float) -> None:
        """Let it be silent for so long from now on."""
        with suppress(Exception):
            if (sock := self._socket()) is not None:
                sock.settimeout(seconds)

    def close(self) -> None:
        import socket

        with suppress(Exception):
            if (sock := self._socket()) is not None:
                sock.shutdown(socket.SHUT_RDWR)  # wakes whoever reads from it
        with suppress(Exception):
            self._response.close()

    def _socket(self) -> Any:
        return getattr(getattr(self._response, "connection", None), "sock", None)


def in_cluster() -> bool:
    """Whether this process runs in a pod that may speak to its API server."""
    return bool(os.environ.get("KUBERNETES_SERVICE_HOST")) and os.path.exists(_TOKEN)


@contextmanager
def _complaints() -> Iterator[list[str]]:
    """Collect what the client logs as errors, which would go to stderr as it is."""
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
    """Notice within a minute that the other side of a silent watch is gone."""
    import socket

    return [
        (socket.IPPROTO_TCP, socket.TCP_NODELAY, 1),
        (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1),
        (socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 30),
        (socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, 10),
        (socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 3),
    ]


def _reason(error: BaseException) -> str:
    """Return the innermost cause, which is the one that says something."""
    while (inner := getattr(error, "reason", None) or error.__cause__) and isinstance(inner, BaseException):
        error = inner
    return " ".join(str(error).split())[:300] or type(error).__name__


def _after(headers: Mapping[str, str]) -> float:
    try:
        return max(0.0, min(60.0, float(headers.get("Retry-After") or 0)))
    except ValueError:
        return 0.0
