# SPDX-License-Identifier: BSD-2-Clause
"""A real server of its own for each test that asks for one, on a Unix socket."""

import http.client
import json
import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from jsonschema import Draft202012Validator

from eunomia.server import openapi
from tests import needs

KILLS = int(os.environ.get("EUNOMIA_KILLS", "15"))  # times that a writer is killed; 200 before a release
EUNOMIA = Path(sys.executable).with_name("eunomia")


class Answer(NamedTuple):
    status: int
    body: Any
    headers: dict[str, str]


def check(method: str, path: str, answer: Answer) -> None:
    """Fail if an answer is not as described; of what is not served at all, that it is a problem."""
    description = openapi.description()
    schema: dict[str, Any] = {"$ref": "#/components/schemas/Problem"}
    for template, item in description["paths"].items():
        if re.fullmatch(re.sub(r"{\w+}", "[^/]+", template), path) and method.lower() in item:
            responses = item[method.lower()]["responses"]
            assert str(answer.status) in responses, f"{method} {template} does not describe {answer}"
            content = responses[str(answer.status)]["content"]
            kind = answer.headers["content-type"].partition(";")[0]
            assert kind in content, f"{method} {template} does not describe {kind}: {answer}"
            schema = content[kind]["schema"]
            break
    else:
        assert answer.status in {404, 405}, answer
    if answer.body is not None:
        validator = Draft202012Validator({**schema, "components": description["components"]})
        errors = [f"{e.json_path}: {e.message}" for e in validator.iter_errors(answer.body)]
        assert not errors, f"{method} {path}: {errors}"


class _Connection(http.client.HTTPConnection):
    def __init__(self, path: Path) -> None:
        super().__init__("localhost", timeout=60)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(str(self._path))


class Events:
    """A stream of server-sent events that is being read."""

    def __init__(self, connection: _Connection, answer: http.client.HTTPResponse) -> None:
        self._connection, self._answer = connection, answer

    def __iter__(self) -> Iterator[tuple[int, str, Any]]:
        number, kind, data = 0, "row", ""
        while line := self._answer.readline():
            name, _, text = line.decode().rstrip("\n").partition(": ")
            if name == "id":
                number = int(text)
            elif name == "event":
                kind = text
            elif name == "data":
                data = text
            elif not name and data:
                yield number, kind, json.loads(data)
                kind, data = "row", ""

    def close(self) -> None:
        self._connection.close()


class Server:
    """A server that runs, and its API."""

    def __init__(self, directory: Path, *options: str, before: Sequence[str] = ()) -> None:
        self.socket = directory / "s"
        self.state = directory / "state"
        command = [*before, EUNOMIA, "server", "--socket", self.socket, "--state", self.state]
        command += ["--interval", "100ms", *options]
        told = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        told.bind(str(directory / "notify"))
        os.chmod(directory / "notify", 0o666)  # the server may run as another user
        self.errors = directory / "stderr"
        with open(self.errors, "w") as errors:
            self.process = subprocess.Popen(
                command, stderr=errors, env={**os.environ, "NOTIFY_SOCKET": str(directory / "notify")}
            )
        told.settimeout(0.2)
        while True:
            try:
                assert told.recv(64) == b"READY=1"
                break
            except TimeoutError:
                assert self.process.poll() is None, self.errors.read_text()
        told.close()

    def ask(self, method: str, path: str, body: Any = None, **headers: str) -> Answer:
        connection = _Connection(self.socket)
        data = body if isinstance(body, bytes | None) else json.dumps(body).encode()
        connection.request(method, path, data, headers)
        answer = connection.getresponse()
        text = answer.read()
        connection.close()
        headers = {k.lower(): v for k, v in answer.getheaders()}
        is_json = headers.get("content-type", "").endswith("json")
        found = Answer(answer.status, (json.loads(text) if is_json else text.decode()) if text else None, headers)
        check(method, path.partition("?")[0], found)
        return found

    def events(self, path: str, **headers: str) -> Events:
        connection = _Connection(self.socket)
        connection.request("GET", path, headers=headers)
        answer = connection.getresponse()
        assert answer.status == 200, answer.read()
        return Events(connection, answer)

    def stop(self) -> int:
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        return self.process.wait()


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    needs.root()
    running = Server(tmp_path)
    yield running
    assert running.stop() == 0, running.errors.read_text()
