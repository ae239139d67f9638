# SPDX-License-Identifier: BSD-2-Clause
"""Targets of the server: its files, and the bodies of requests."""

from __future__ import annotations

import json
from pathlib import Path

from eunomia.server import config, original, state
from eunomia.server.models import Generation, TrackerRequest
from eunomia.server.problems import ApiError
from tests.fuzz.target import Target, put

EXAMPLES = Path(__file__).parents[2] / "docs" / "examples"

ORIGINAL = {
    "run_selected": "server",
    "enabled_trackers": [{"name": "files", "export_handlers": [{"name": "stdout", "args": ["a"]}], "args": ["-p", "7"]}],
    "tracing_selected": "container_id",
    "tracing_target_id": "0123456789ab",
    "exit_after": 5,
    "security_rules": [{"rule_name": "a", "type": "syscall", "trigger": "bpf", "err_msg": "b"}],
    "seccomp_data": [{"container_id": "c", "allow_syscall": ["read"]}],
    "server_port": 8527,
}

TABLES = b"""[trackers]
Enable = ["process", "tcp"]
container_id = 1
process_id = 2
run_time = 3
[rules]
Enable = ["one"]
[one]
name = "x"
[seccomp]
allow = ["read"]
"""


def _examples() -> list[bytes]:
    return [path.read_bytes() for path in sorted(EXAMPLES.glob("*.toml"))]


def _config(data: bytes) -> None:
    """Read a file; what it is translated to is read too, and is the same."""
    path = put("server.toml", data)
    found = config.read(path)
    config.check(path)
    if found.translated:
        again = config.read(put("translated.toml", found.translated.encode()))
        assert again.config == found.config


def _states() -> list[bytes]:
    from eunomia.server.state import Entry, State

    directory = put("state/x", b"").removesuffix("/x")
    Path(directory).chmod(0o700)
    now = State(directory)
    ran = [Generation(n, "x", "2026-11-27T12:00:00Z", "running", {"a": n}) for n in (1, 2)]
    for id_ in ("a", "b"):
        now.put(Entry(id_, TrackerRequest(kind="process", id=id_), "2026-11-27T12:00:00Z", 2, ran))
    now.close()
    return [Path(directory, "state.json").read_bytes()]


def _start(data: bytes) -> None:
    original.start(data, ["opensnoop", "process"])


TARGETS = {
    "config": Target(_examples, _config, (config.ConfigError,), 4),
    "original_json": Target(lambda: [json.dumps(ORIGINAL).encode()], _config, (config.ConfigError,), 4),
    "original_toml": Target(lambda: [TABLES], _config, (config.ConfigError,), 4),
    "original_start": Target(lambda: [json.dumps(ORIGINAL["enabled_trackers"][0]).encode()], _start, (ApiError,)),
    "original_stop": Target(lambda: [b'{"id": 12}'], original.stop, (ApiError,)),
    "state": Target(_states, state.decode, (ValueError,)),
}
