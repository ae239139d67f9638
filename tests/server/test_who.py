# SPDX-License-Identifier: BSD-2-Clause
"""What callers of a real server may do, and what is recorded of it."""

import http.client
import json
import os
import random
import signal
import subprocess
import threading
from datetime import timedelta

import pytest

from eunomia.server.audit_verify import verify_directory
from eunomia.server.tokens import Tokens
from tests import needs
from tests.server.conftest import EUNOMIA, Server

DAY = timedelta(days=1)


@pytest.fixture
def tokens(server):
    made = Tokens(server.state)
    yield made
    made.close()


def asking(server, tokens, scope):
    """ask(method, path, body) with a token of its own."""
    text = tokens.create(scope, [scope], DAY)[1]
    return lambda method, path, body=None: server.ask(method, path, body, Authorization=f"Bearer {text}")


def test_only_who_may_do_everything_has_the_server_write_files(server, tokens, tmp_path):
    """The server is root: who chooses its files could write any on the machine."""
    victim = tmp_path / "victim"
    victim.write_text("precious")
    outputs = [{"file": str(victim)}]
    for scope in ("run", "load"):
        ask = asking(server, tokens, scope)
        assert ask("POST", "/v1/trackers", {"kind": "process", "outputs": outputs}).status == 403
        assert ask("POST", "/v1/trackers", {"kind": "process", "id": scope}).status == 201
        refused = ask("PATCH", f"/v1/trackers/{scope}", {"outputs": outputs})
        assert (refused.status, "admin" in refused.body["detail"]) == (403, True)
        assert ask("PATCH", f"/v1/trackers/{scope}", {"outputs": []}).status == 200
    assert victim.read_text() == "precious"
    ask = asking(server, tokens, "admin")
    assert ask("POST", "/v1/trackers", {"kind": "process", "id": "a", "outputs": [{"file": str(tmp_path / "rows")}]}).status == 201


def test_every_route_asks_for_its_scope(server, tokens):
    """Whoever has less than a route's scope is refused before anything else is looked at."""
    from eunomia.server.routes import ROUTES

    order = ["", "read", "run", "load", "admin"]
    callers = {scope: asking(server, tokens, scope) for scope in order[1:]}
    for route in ROUTES:
        path = route.path.replace("{id}", "nosuch")
        for scope, ask in callers.items():
            if path.endswith("/events"):
                continue
            is_refused = ask(route.method, path, b"\xff").status == 403
            assert is_refused == (order.index(scope) < order.index(route.scope)), (route.method, path, scope)


def test_who_is_refused_leaves_no_record_and_who_acts_does(server, tokens):
    reads, runs = asking(server, tokens, "read"), asking(server, tokens, "run")
    assert reads("POST", "/v1/trackers", {"kind": "process"}).status == 403
    assert runs("POST", "/v1/trackers", {"kind": "process"}).status == 201
    assert reads("GET", "/v1/trackers").status == 200
    assert server.ask("DELETE", "/v1/trackers/process").status == 200
    shown = subprocess.run([EUNOMIA, "audit", "show", "-o", "json", "--state", server.state], capture_output=True, text=True, check=True)
    records = [json.loads(line) for line in shown.stdout.splitlines()]
    starts = [r for r in records if r["action"] == "POST /v1/trackers"]
    assert [(r["who"]["name"], r["outcome"]) for r in starts] == [("run", "begun"), ("run", "done")]
    [stop, *_] = [r for r in records if r["action"].startswith("DELETE")]
    assert (stop["who"]["kind"], stop["who"]["uid"], stop["who"]["pid"]) == ("peer", 0, os.getpid())
    done = subprocess.run([EUNOMIA, "audit", "verify", "--state", server.state], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_a_server_that_is_killed_while_it_acts_leaves_a_whole_log_that_says_what_it_did(tmp_path):
    needs.root()
    seed = random.randrange(1 << 32)
    chance = random.Random(seed)
    answered: list[str] = []
    for round_ in range(8):
        server = Server(tmp_path)

        def act(server=server, round_=round_):
            for i in range(10_000):
                name = f"r{round_}-{i}"
                try:
                    if server.ask("POST", "/v1/trackers", {"kind": "syscall", "id": name}).status == 201:
                        answered.append(name)
                    server.ask("DELETE", f"/v1/trackers/{name}")
                except (OSError, http.client.HTTPException):
                    return

        acting = threading.Thread(target=act)
        acting.start()
        wanted = len(answered) + chance.randrange(4)
        while len(answered) < wanted and acting.is_alive():
            server.process.poll()
        server.process.send_signal(signal.SIGKILL)
        server.process.wait()
        acting.join()
        (tmp_path / "notify").unlink()
        result = verify_directory(server.state / "audit")
        assert not result.findings, (seed, result.findings)
    lines = b"".join(p.read_bytes() for p in sorted((tmp_path / "state/audit").glob("*.jsonl"))).splitlines()
    begun = {json.loads(r["details"]["request"])["id"] for r in map(json.loads, lines) if r["action"] == "POST /v1/trackers" and r["outcome"] == "begun"}
    assert set(answered) <= begun
