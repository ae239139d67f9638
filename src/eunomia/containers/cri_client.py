# SPDX-License-Identifier: BSD-2-Clause
"""Client of container runtimes' sockets (CRI over gRPC), with a thread of its own."""

from __future__ import annotations

import os
import sys
from collections import OrderedDict, deque
from collections.abc import Callable, Sequence
from threading import Condition, Thread

from eunomia.containers.cri_messages import Message, encoded
from eunomia.containers.runtime import Metadata, bounded, texts
from eunomia.identity import CREATED, EXITED, RUNNING, Container, Mount, Pod
from eunomia.typing import Any, NamedTuple, Protocol

AGAIN = 100_000_000  # ns after which the runtime is asked again for a container that it did not know
FRESH = 5_000_000_000  # ns for which an answer is used
KEPT = 4096  # answers, and open questions
MOUNTS = 256  # of one container
_ADDRESSES = 64
_CALL = 2.0  # seconds
_MESSAGE_LIMIT = 16 << 20  # bytes, as kubelet has it
_VERSIONS = ("v1", "v1alpha2")  # tried in this order; containerd 1.5 and CRI-O 1.19 have only the second
_STATES = {0: CREATED, 1: RUNNING, 2: EXITED}
_POD_LABELS = "io.kubernetes.pod."  # kubelet's own, which repeat the pod's name
_SANDBOX_NAME = "POD"  # as kubelet calls a pod's own container
_SILENT = "cri"  # shown for a runtime that does not say its name


class Unknown(Exception):
    """The runtime does not know the container or sandbox."""


class Unavailable(Exception):
    """No runtime answers at a socket."""


class Service(Protocol):
    """A runtime's RuntimeService."""

    def call(self, method: str, request: bytes) -> bytes:
        """Return the response; raises :class:`Unknown`, and :class:`Unavailable` for temporary failures."""

    def close(self) -> None:
        """Close the connection."""


class _Answer(NamedTuple):
    found: Metadata | None
    at: int


class CriClient:
    """Asks runtimes in a thread, and keeps their answers for a while."""

    def __init__(
        self, dial: Callable[[str], Service] | None, clock: Callable[[], int], notify: Callable[[str], None]
    ) -> None:
        """``dial`` replaces gRPC; ``clock`` gives monotonic nanoseconds.

        ``notify`` is called from the thread with the id of each container that a runtime has answered for.
        """
        self._notify = notify
        self._dial = dial
        self._clock = clock
        self._answers: OrderedDict[str, _Answer] = OrderedDict()
        self._wanted: deque[tuple[str, tuple[str, ...]]] = deque()
        self._asked: set[str] = set()
        self._changed = Condition()
        self._thread: Thread | None = None
        self._services: dict[str, Service] = {}
        self._unusable = False
        self._errors: deque[Exception] = deque(maxlen=KEPT)

    def answer(self, container_id: str, sockets: Sequence[str]) -> Metadata | None:
        """Return what is known of a container without waiting; ask for it if that is nothing, or old.

        Raises unexpected errors of the thread.
        """
        if self._errors:
            raise self._errors.popleft()
        if self._unusable:
            return None
        now = self._clock()
        with self._changed:
            answer = self._answers.get(container_id)
            if answer is not None and now - answer.at < (FRESH if answer.found else AGAIN):
                return answer.found
            if sockets and container_id not in self._asked and len(self._asked) < KEPT:
                self._asked.add(container_id)
                self._wanted.append((container_id, tuple(sockets)))
                self._changed.notify()
                if self._thread is None:
                    self._thread = Thread(target=self._run, name="cri", daemon=True)
                    self._thread.start()
            return answer.found if answer is not None else None

    # In the thread

    def _run(self) -> None:
        dial = self._dial or _grpc()
        if dial is None:
            self._unusable = True
            sys.stderr.write(
                "eunomia: a runtime's socket could name containers that its files here do not: "
                "pip install 'eunomia[cri]'\n"
            )
            return
        while True:
            with self._changed:
                while not self._wanted:
                    self._changed.wait()
                container_id, sockets = self._wanted.popleft()
            found = None
            for socket in sockets:
                try:
                    found = self._ask(dial, socket, container_id)
                except Exception as error:  # raised by answer()
                    self._errors.append(error)
                if found is not None:
                    break
            with self._changed:
                self._asked.discard(container_id)
                self._answers[container_id] = _Answer(found, self._clock())
                self._answers.move_to_end(container_id)
                if len(self._answers) > KEPT:
                    self._answers.popitem(last=False)
            if found is not None:
                self._notify(container_id)

    def _ask(self, dial: Callable[[str], Service], socket: str, container_id: str) -> Metadata | None:
        try:
            service = self._services.get(socket)
            if service is None:
                service = self._services[socket] = dial(socket)
            return ask(service, container_id)
        except (Unknown, ValueError):
            return None
        except Unavailable:  # absent, or being restarted: connect again for the next question
            gone = self._services.pop(socket, None)
            if gone is not None:
                gone.close()
            return None


# Questions and answers; the numbers are those of api.proto.


def ask(service: Service, container_id: str) -> Metadata:
    """Return a runtime's metadata of a container or a sandbox.

    Raises :class:`Unknown`, :class:`Unavailable`, and :class:`ValueError` for an invalid answer.
    """
    listed = Message(service.call("ListContainers", encoded({1: {1: container_id}})))
    for one in listed.messages(1):
        if one.text(1) == container_id:
            sandbox = one.text(2)
            break
    else:
        return _sandbox(service, container_id)
    status = Message(service.call("ContainerStatus", encoded({1: container_id}))).message(1)
    try:
        pod, addresses = _pod(service, sandbox)
    except Unknown:
        pod, addresses = None, ()
    image, ref = status.message(8), bounded(status.text(9))
    name = bounded(status.message(2).text(1))
    mounts = [
        Mount(bounded(m.text(2)), bounded(m.text(1)), "bind", not m.number(3)) for m in status.messages(14)
    ]  # fmt: skip
    container = Container(
        container_id,
        name or container_id,
        bounded(image.text(18) or image.text(1)),
        _runtime(service),
        image_id=ref if ref.startswith("sha256:") else "",
        image_digest=ref.partition("@")[2],
        labels=texts(status.texts(12)),
        annotations=texts(status.texts(13)),
        mounts=tuple(mounts[:MOUNTS]),
        addresses=addresses,
        state=_STATES.get(status.number(3), ""),
        created=max(0, status.number(4)),
        started=max(0, status.number(5)),
        restarts=max(0, status.message(2).number(2)),
    )
    return Metadata(container, pod)


def _sandbox(service: Service, sandbox: str) -> Metadata:
    pod, addresses = _pod(service, sandbox)
    container = Container(sandbox, _SANDBOX_NAME, runtime=_runtime(service), addresses=addresses, sandbox=True)
    return Metadata(container, pod)


def _pod(service: Service, sandbox: str) -> tuple[Pod, tuple[str, ...]]:
    status = Message(service.call("PodSandboxStatus", encoded({1: sandbox}))).message(1)
    if status.text(1) != sandbox:
        raise Unknown(sandbox)
    metadata, network = status.message(2), status.message(5)
    addresses = tuple(bounded(a) for a in (network.text(1), *(m.text(1) for m in network.messages(2))) if a)[
        :_ADDRESSES
    ]
    pod = Pod(
        bounded(metadata.text(1)),
        bounded(metadata.text(3)),
        bounded(metadata.text(2)),
        texts({key: text for key, text in status.texts(7).items() if not key.startswith(_POD_LABELS)}),
        texts(status.texts(8)),
        sandbox,
        addresses,
    )
    return pod, addresses


def _runtime(service: Service) -> str:
    return str(getattr(service, "runtime", "")) or _SILENT


def _grpc() -> Callable[[str], Service] | None:
    """Return a function that connects to a socket; ``None`` if gRPC is not installed."""
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")  # else it writes to stderr
    try:
        import grpc
    except ImportError:
        return None

    class Connection:
        """A connection to a runtime's socket."""

        def __init__(self, socket: str) -> None:
            options = [
                ("grpc.default_authority", "localhost"),  # the default is the socket's path, which runtimes refuse
                ("grpc.max_receive_message_length", _MESSAGE_LIMIT),
                ("grpc.enable_http_proxy", 0),
            ]
            self._channel: Any = grpc.insecure_channel(f"unix://{socket}", options=options)
            self._version = ""
            self.runtime = ""
            self.runtime = bounded(Message(self.call("Version", b"")).text(2))

        def call(self, method: str, request: bytes) -> bytes:
            for version in (self._version,) if self._version else _VERSIONS:
                path = f"/runtime.{version}.RuntimeService/{method}"
                try:
                    answer: bytes = self._channel.unary_unary(path)(request, timeout=_CALL)
                except grpc.RpcError as error:
                    code = error.code()
                    if code == grpc.StatusCode.UNIMPLEMENTED and not self._version:
                        continue
                    if code == grpc.StatusCode.NOT_FOUND:
                        raise Unknown(method) from None
                    raise Unavailable(f"{method}: {code}") from None
                self._version = version
                return answer
            raise Unavailable(f"no RuntimeService of {' or '.join(_VERSIONS)}")

        def close(self) -> None:
            self._channel.close()

    return Connection
