# SPDX-License-Identifier: BSD-2-Clause
"""Who is let in, by real connections: uvicorn on a Unix socket and on TCP."""

import http.client
import json
import os
import shutil
import subprocess
import tempfile
from datetime import timedelta
from pathlib import Path

import pytest

from eunomia.faults import Faults
from eunomia.server.auth import Authentication, Caller, require
from eunomia.server.peer import origin
from eunomia.server.problems import ApiError
from eunomia.server.tokens import Scope, Tokens, scopes_of
from tests import needs
from tests.server.serving import Served, app

DAY = timedelta(days=1)
EVERY = sorted(Scope)
OTHER = 54321  # a user
PYTHON = "/usr/bin/python3"

AS_OTHER = """
import http.client, socket, sys
connection = http.client.HTTPConnection("localhost")
connection.sock = socket.socket(socket.AF_UNIX)
connection.sock.connect(sys.argv[1])
connection.request("GET", "/whoami", headers=dict(Authorization=f"Bearer {sys.argv[2]}") if sys.argv[2:] else {})
answer = connection.getresponse()
print(answer.status, answer.read().decode())
"""


@pytest.fixture
def place():
    """A folder that all users may enter."""
    made = Path(tempfile.mkdtemp())
    made.chmod(0o755)
    yield made
    shutil.rmtree(made)


@pytest.fixture
def tokens(tmp_path):
    made = Tokens(tmp_path)
    yield made
    made.close()


@pytest.fixture
def served(place):
    """served(application, "unix" or an address) -> Served; all are closed at the end."""
    running = []

    def serve(application, at, **options):
        running.append(Served(application, place / f"s{len(running)}" if at == "unix" else at, **options))
        return running[-1]

    yield serve
    for one in running:
        one.close()


def as_other(served, *token):
    done = subprocess.run(
        [PYTHON, "-c", AS_OTHER, served.at, *token],
        user=OTHER,
        group=OTHER,
        extra_groups=[],
        capture_output=True,
        text=True,
        check=True,
    )
    status, _, body = done.stdout.partition(" ")
    return int(status), json.loads(body)


def test_root_may_do_everything_on_the_unix_socket(served, tokens):
    needs.root()
    server = served(Authentication(app(), tokens), "unix")
    expected = {"caller": "uid:0", "scopes": EVERY, "who": {"kind": "peer", "uid": 0, "pid": os.getpid()}}
    assert server.ask("GET", "/whoami").body == expected
    [first, second] = server.websocket(talk=("abc",))
    assert (json.loads(first), second) == (expected, "cba")


def test_another_user_is_refused_on_the_unix_socket(served, tokens):
    needs.root()
    server = served(Authentication(app(), tokens), "unix")
    status, problem = as_other(server)
    assert (status, problem["status"], problem["title"]) == (403, 403, "Forbidden")
    assert f"user {OTHER} is not let in" in problem["detail"]


def test_a_user_that_was_let_in_has_the_scopes_that_were_said(served, tokens):
    needs.root()
    server = served(Authentication(app(), tokens, uids={OTHER: ["run"]}), "unix")
    status, body = as_other(server)
    assert (status, body["caller"], body["scopes"], body["who"]["uid"]) == (200, f"uid:{OTHER}", ["read", "run"], OTHER)


def test_another_user_with_a_token_has_its_scopes(served, tokens):
    needs.root()
    server = served(Authentication(app(), tokens), "unix")
    token, text = tokens.create("ci", ["read"], DAY)
    status, body = as_other(server, text)
    assert (status, body["caller"], body["scopes"]) == (200, f"token:{token.id}", ["read"])
    assert (body["who"]["token"], body["who"]["name"], body["who"]["uid"]) == (token.id, "ci", OTHER)


def test_the_servers_own_user_may_do_everything(served, tokens, monkeypatch):
    needs.root()
    monkeypatch.setattr(os, "geteuid", lambda: OTHER)
    application = Authentication(app(), tokens)
    monkeypatch.undo()
    status, body = as_other(served(application, "unix"))
    assert (status, body["scopes"]) == (200, EVERY)


def test_a_token_restricts_root_too(served, tokens):
    needs.root()
    server = served(Authentication(app(), tokens), "unix")
    _, text = tokens.create("ci", ["read"], DAY)
    assert server.ask("GET", "/whoami", token=text).body["scopes"] == ["read"]
    assert server.ask("GET", "/whoami", token=f"{text}x").status == 401


@pytest.mark.parametrize("at", ["127.0.0.1", "::1"])
def test_on_tcp_nobody_comes_in_without_a_token(served, tokens, at):
    server = served(Authentication(app(), tokens), at)
    tokens.create("ci", ["read"], DAY)
    refused = server.ask("GET", "/whoami")
    assert refused.status == 401
    assert refused.headers["content-type"] == "application/problem+json"
    assert refused.headers["www-authenticate"] == 'Bearer realm="eunomia"'
    assert refused.body | {"detail": ""} == {
        "type": "about:blank",
        "title": "Unauthorized",
        "status": 401,
        "detail": "",
    } | ({"field": ""} if "field" in refused.body else {})
    status, problem = server.websocket()
    assert (status, problem["status"]) == (401, 401)


def test_on_tcp_a_token_has_its_scopes(served, tokens):
    server = served(Authentication(app(), tokens), "127.0.0.1")
    token, text = tokens.create("ci", ["load"], DAY)
    body = server.ask("GET", "/whoami", token=text).body
    who = {"kind": "token", "token": token.id, "name": "ci", "address": "127.0.0.1"}
    assert body == {"caller": f"token:{token.id}", "scopes": ["load", "read", "run"], "who": who}
    [first] = server.websocket(text)
    assert json.loads(first) == body
    assert server.ask("GET", "/whoami", Authorization=f"bEARER   {text} ").status == 200


def test_a_token_that_ended_is_refused_at_the_next_request_and_says_how(served, tokens):
    server = served(Authentication(app(), tokens), "127.0.0.1")
    revoked, expired = tokens.create("a", ["read"], DAY), tokens.create("b", ["read"], timedelta(0))
    assert server.ask("GET", "/whoami", token=revoked[1]).status == 200
    tokens.revoke(revoked[0].id)
    for (_, text), how in ((revoked, "revoked"), (expired, "expired")):
        refused = server.ask("GET", "/whoami", token=text)
        assert (refused.status, refused.body["detail"]) == (401, f"the token is {how}")
        assert 'error="invalid_token"' in refused.headers["www-authenticate"]
        assert server.websocket(text)[0] == 401


@pytest.mark.parametrize("at", ["unix", "127.0.0.1"])
@pytest.mark.parametrize("how", ["revoked", "expired", "damaged"])
def test_streams_and_websockets_end_with_their_token(served, tokens, monkeypatch, at, how):
    monkeypatch.setattr(Authentication, "look_every", 0.05)
    server = served(Authentication(app(), tokens), at)
    token, text = tokens.create("ci", ["read"], DAY)
    stream = server.begin("GET", "/stream", headers={"Authorization": f"Bearer {text}"})
    assert stream.read(20) == b"x" * 20

    def end():
        content = tokens.path.read_text()
        if how == "revoked":
            tokens.revoke(token.id)
        else:
            tokens.path.write_text("{" if how == "damaged" else content.replace(f"{token.expires:%Y-%m-%dT%H:%M:%SZ}", "2020-01-01T00:00:00Z"))

    assert server.websocket(text, talk=("abc", end)) == 1008
    with pytest.raises(http.client.IncompleteRead):
        stream.read()


def test_a_stream_goes_on_while_its_token_is_valid(served, tokens, monkeypatch):
    monkeypatch.setattr(Authentication, "look_every", 0.01)
    server = served(Authentication(app(), tokens), "127.0.0.1")
    _, text = tokens.create("ci", ["read"], DAY)
    stream = server.begin("GET", "/stream", headers={"Authorization": f"Bearer {text}"})
    for _ in range(10):
        tokens.revoke(tokens.create("other", ["read"], DAY)[0].id)
        assert stream.read(10) == b"x" * 10
    stream.close()
    assert server.ask("POST", "/size", b"x" * 1_000_000, token=text).body == {"size": 1_000_000}


@pytest.mark.parametrize("value", ["", "Bearer", "Bearer ", "Basic dXNlcjpwYXNz", "Bearer a b", "Token x", "Bearer \xff", "Bearer eunomia_000000000000_" + "A" * 43])
def test_what_is_no_token_is_refused(served, tokens, value):
    server = served(Authentication(app(), tokens), "127.0.0.1")
    tokens.create("ci", ["read"], DAY)
    assert server.ask("GET", "/whoami", Authorization=value).status == 401


def test_two_tokens_are_none(served, tokens):
    server = served(Authentication(app(), tokens), "127.0.0.1")
    _, text = tokens.create("ci", ["read"], DAY)
    with server.connect() as wire:
        line = f"Authorization: Bearer {text}\r\n"
        wire.sendall(f"GET /whoami HTTP/1.1\r\nHost: x\r\n{line}{line}\r\n".encode())
        assert wire.recv(100).startswith(b"HTTP/1.1 401 ")


def test_headers_of_proxies_let_nobody_in(served, tokens):
    server = served(Authentication(app(), tokens), "127.0.0.1")
    for name in ("X-Forwarded-For", "Forwarded", "X-Real-IP", "X-Eunomia-Peer", "Peer", "State"):
        assert server.ask("GET", "/whoami", **{name: "uid=0;for=unix"}).status == 401


def test_a_server_that_does_not_know_its_peer_lets_nobody_in_by_user(served, tokens):
    needs.root()
    server = served(Authentication(app(), tokens), "unix", http="h11")
    assert server.ask("GET", "/whoami").status == 401


def test_a_server_without_tokens_lets_only_users_in(served):
    needs.root()
    application = Authentication(app(), None)
    assert served(application, "unix").ask("GET", "/whoami").status == 200
    assert (
        served(application, "127.0.0.1").ask("GET", "/whoami", token="eunomia_000000000000_" + "A" * 43).status == 401
    )


def test_open_paths_are_open_and_no_others(served, tokens):
    server = served(Authentication(app(), tokens, open_paths={"/healthz"}), "127.0.0.1")
    assert server.ask("GET", "/healthz").body == {"caller": None, "scopes": [], "who": None}
    for path in ("/whoami", "/healthz/", "/healthz/../whoami", "//healthz", "/HEALTHZ", "/nothing", "/%77hoami"):
        assert server.ask("GET", path).status == 401, path


def test_a_damaged_file_of_tokens_is_reported_once_and_lets_nobody_in(served, tokens):
    said = []
    server = served(
        Authentication(app(), tokens, faults=Faults(lambda sentence, error: said.append(sentence))), "127.0.0.1"
    )
    _, text = tokens.create("ci", ["read"], DAY)
    tokens.path.write_text("{")
    answers = [server.ask("GET", "/whoami", token=text) for _ in range(3)]
    assert [a.status for a in answers] == [503] * 3
    assert str(tokens.path) not in answers[0].body["detail"], (
        "what the server's files are called is not the client's business"
    )
    assert len(said) == 1
    assert str(tokens.path) in said[0]


def test_who_is_refused_again_and_again_has_to_wait_and_others_do_not(served, tokens):
    server = served(Authentication(app(), tokens), "127.0.0.1")
    _, text = tokens.create("ci", ["read"], DAY)
    answers = [server.ask("GET", "/whoami", Authorization="Bearer wrong") for _ in range(60)]
    first = [a.status for a in answers].index(429)
    assert first >= 20
    assert int(answers[first].headers["retry-after"]) >= 1
    assert answers[first].headers["content-type"] == "application/problem+json"
    assert server.ask("GET", "/whoami", token=text).status == 200


def test_the_user_of_all_who_cannot_be_named_cannot_be_let_in():
    with pytest.raises(ValueError, match="65534"):
        Authentication(app(), None, uids={65534: ["read"]})
    with pytest.raises(ValueError, match="there is no scope"):
        Authentication(app(), None, uids={1: ["root"]})


@pytest.mark.parametrize("has", Scope)
@pytest.mark.parametrize("needed", Scope)
def test_a_scope_is_required_as_the_order_says(has, needed):
    order = list(Scope)
    connection = {"state": {"caller": Caller("token:a", scopes_of([has]), {"token": "a"})}}
    if order.index(has) >= order.index(needed):
        require(connection, needed)
        return
    with pytest.raises(ApiError, match=f"needs the scope {needed}; token a has read") as raised:
        require(connection, needed)
    assert raised.value.status == 403


def test_without_a_caller_only_what_needs_nothing_is_allowed():
    require({"state": {"caller": None}}, "")
    for connection in ({}, {"state": {}}, {"state": {"caller": None}}, {"state": {"caller": {"scopes": ["admin"]}}}):
        with pytest.raises(ApiError) as raised:
            require(connection, "read")
        assert raised.value.status == 401


def test_requests_are_counted_by_user_address_or_network():
    def of(address):
        return origin({"state": {"peer": None}, "client": (address, 1)})

    assert of("192.0.2.1") == of("::ffff:192.0.2.1") == "address:192.0.2.1"
    assert of("2001:db8::1") == of("2001:db8::ffff:1") == "address:2001:db8::"
    assert of("2001:db8:0:1::1") != of("2001:db8::1")
    assert of("fe80::1%eth0") == "address:fe80::"
    assert origin({}) == "address:unknown"
