# SPDX-License-Identifier: BSD-2-Clause
"""What one caller may ask for, by real connections: uvicorn on a Unix socket and on TCP."""

import asyncio
import os
import threading
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eunomia.server.auth import Authentication
from eunomia.server.limits import Bounds, Limits
from eunomia.server.peer import PeerProtocol
from eunomia.server.rate import Buckets
from eunomia.server.tokens import Tokens
from tests.server.serving import Served, app

KILO = b"x" * 1000
FREE = Bounds(rate=1e6, burst=1e6)


@pytest.fixture(params=["unix", "127.0.0.1"])
def at(request, tmp_path):
    return tmp_path / "s" if request.param == "unix" else request.param


@pytest.fixture
def served():
    """served(bounds, at) -> Served; all are closed at the end."""
    running = []

    def serve(bounds, at="127.0.0.1", application=None, **options):
        running.append(Served(Limits(application or app(), bounds), at, **options))
        return running[-1]

    yield serve
    for one in running:
        one.close()


def pieces(count):
    yield from [KILO] * count


# Bodies


def test_a_body_of_the_limit_passes_and_a_byte_more_does_not(served, at):
    server = served(FREE._replace(body=10_000), at)
    assert server.ask("POST", "/size", b"x" * 10_000).body == {"size": 10_000}
    assert server.ask("POST", "/size", pieces(10)).body == {"size": 10_000}
    for body in (b"x" * 10_001, pieces(11), b"x" * 20_000_000, pieces(5000)):
        refused = server.ask("POST", "/size", body)
        assert (refused.status, refused.body["status"], refused.body["title"]) == (413, 413, refused.body["title"])
        assert "more than 10000 bytes" in refused.body["detail"]
        assert refused.headers["content-type"] == "application/problem+json"
        assert refused.headers["connection"] == "close"
    assert server.ask("POST", "/size", KILO).body == {"size": 1000}


def test_a_path_may_have_a_limit_of_its_own(served):
    server = served(FREE._replace(body=10, bodies={"/v1/objects": 1000}))
    assert server.ask("POST", "/v1/objects", KILO).body == {"size": 1000}
    assert server.ask("POST", "/v1/objects", KILO + b"x").status == 413
    assert server.ask("POST", "/size", KILO).status == 413
    assert Bounds().bodies["/v1/objects"] > Bounds().body


def test_a_body_that_is_only_announced_is_refused_before_it_is_sent(served, at):
    server = served(FREE._replace(body=10), at)
    with server.connect() as wire:
        wire.sendall(b"POST /size HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000\r\nExpect: 100-continue\r\n\r\n")
        assert wire.recv(1000).startswith(b"HTTP/1.1 413 ")


def test_a_body_without_end_is_cut_off(served, at):
    server = served(FREE._replace(body=10), at)
    with server.connect() as wire:
        wire.sendall(b"POST /size HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n")
        with pytest.raises(OSError):
            while True:
                wire.sendall(b"10000\r\n" + b"x" * 0x10000 + b"\r\n")


def test_a_body_that_does_not_come_is_waited_for_only_so_long(served, at):
    server = served(FREE._replace(body_seconds=0.2), at)
    with server.connect() as wire:
        wire.sendall(b"POST /size HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\n12345")
        assert wire.recv(1000).startswith(b"HTTP/1.1 408 ")
        while wire.recv(1000):
            pass


def test_a_stream_may_take_longer_than_a_body(served, at):
    server = served(FREE._replace(body_seconds=0.5), at)
    answer = server.begin("GET", "/stream")
    assert len(answer.read(100)) == 100  # one byte in 10 ms
    answer.close()


def test_an_application_that_has_answered_cannot_answer_twice(served):
    """It answers before it reads: the connection is closed, which tells the client that the answer is not whole."""

    async def early(connection, receive, send):
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"9")]})
        while (await receive())["type"] != "http.disconnect":
            pass
        await send({"type": "http.response.body", "body": b"x" * 9})

    server = served(FREE._replace(body=10), application=early)
    with server.connect() as wire:
        wire.sendall(
            b"POST /size HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n10\r\n" + b"x" * 16 + b"\r\n"
        )
        got = b""
        while piece := wire.recv(1000):
            got += piece
    assert got.count(b"HTTP/1.1") == 1
    assert got.endswith(b"\r\n\r\n")


def test_errors_of_the_application_are_still_errors(served):
    async def broken(connection, receive, send):
        raise ZeroDivisionError

    assert served(FREE, application=broken).begin("GET", "/").status == 500


# Requests


def test_more_requests_than_the_burst_have_to_wait(served, at):
    server = served(Bounds(rate=0.001, burst=5), at)
    answers = [server.ask("GET", "/whoami") for _ in range(7)]
    assert [a.status for a in answers] == [200] * 5 + [429] * 2
    assert int(answers[-1].headers["retry-after"]) > 900
    assert answers[-1].body["title"] == "Too Many Requests"
    assert server.websocket()[0] == 429


def test_each_token_has_a_rate_of_its_own(served, tmp_path):
    tokens = Tokens(tmp_path / "state")
    texts = [tokens.create("ci", ["read"], timedelta(days=1))[1] for _ in range(2)]
    server = Served(Authentication(Limits(app(), Bounds(rate=0.001, burst=2)), tokens), "127.0.0.1")
    try:
        for text in texts:
            assert [server.ask("GET", "/whoami", token=text).status for _ in range(3)] == [200, 200, 429]
    finally:
        server.close()
        tokens.close()


def test_requests_at_a_time_are_bounded_and_given_back(served, at):
    server = served(FREE._replace(requests_each=3), at)
    streams = [server.begin("GET", "/stream") for _ in range(3)]
    assert [s.read(1) for s in streams] == [b"x"] * 3
    refused = server.ask("GET", "/whoami")
    assert (refused.status, refused.body["title"], refused.headers["retry-after"]) == (503, "Service Unavailable", "1")
    for stream in streams:
        stream.close()
    while server.ask("GET", "/whoami").status == 503:
        pass  # until the server has noticed


def test_requests_of_all_callers_together_are_bounded(served):
    server = served(FREE._replace(requests=2))
    streams = [server.begin("GET", "/stream") for _ in range(2)]
    assert server.ask("GET", "/whoami").status == 503
    for stream in streams:
        stream.close()


def test_a_flood_of_messages_is_slowed_down_and_not_refused(served):
    server = served(Bounds(rate=100, burst=10))
    assert server.websocket(talk=tuple("abcdefghijklmnop"))[1:] == [*"abcdefghijklmnop"]


# Connections


@pytest.mark.parametrize("sent", [b"", b"GET", b"GET / HTTP/1.1\r\nHost: x\r\nX-A: b\r\n"])
def test_a_connection_that_sends_no_whole_head_is_closed(served, at, sent):
    class Hasty(PeerProtocol):
        head_seconds = 1.0

    server = served(FREE, at, http=Hasty, timeout_keep_alive=1)
    with server.connect() as wire:
        wire.sendall(sent)
        assert wire.recv(1) == b""
    with server.connect() as wire:  # behind a request that was whole, too
        wire.sendall(b"GET /whoami HTTP/1.1\r\nHost: x\r\n\r\n" + sent)
        got = b""
        while piece := wire.recv(1000):
            got += piece
        assert got.count(b"HTTP/1.1 200") == 1


def test_a_head_that_comes_byte_by_byte_gets_no_more_time(served, at):
    class Hasty(PeerProtocol):
        head_seconds = 0.3

    server = served(FREE, at, http=Hasty)
    with server.connect() as wire:
        wire.settimeout(0.05)
        wire.sendall(b"GET / HTTP/1.1\r\nX-A: ")
        while True:
            try:
                if wire.recv(1) == b"":
                    break
            except TimeoutError:
                wire.sendall(b"b")


def test_requests_streams_and_websockets_outlive_the_time_for_a_head(served, at):
    class Hasty(PeerProtocol):
        head_seconds = 2.0

    server = served(FREE, at, http=Hasty)
    answer = server.begin("GET", "/stream")
    assert len(answer.read(220)) == 220
    answer.close()
    assert server.websocket(talk=tuple("abc") * 100)[1:] == [*"abc"] * 100


def test_more_connections_than_the_server_takes_are_closed(served, at):
    class Few(PeerProtocol):
        most_connections = 5

    server = served(FREE, at, http=Few)
    kept = [server.begin("GET", "/stream") for _ in range(5)]
    with server.connect() as wire, pytest.raises((ConnectionError, EOFError)):
        wire.sendall(b"GET /whoami HTTP/1.1\r\nHost: x\r\n\r\n")
        if wire.recv(1) == b"":
            raise EOFError
    assert [stream.read(1) for stream in kept] == [b"x"] * 5
    for stream in kept:
        stream.close()


def test_a_connection_that_ends_leaves_nothing(served, at):
    server = served(FREE, at)
    server.ask("GET", "/whoami")
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(50):
        with server.connect() as wire:
            wire.sendall(b"GET /wh")
    while len(os.listdir("/proc/self/fd")) > before:
        pass
    assert server.ask("GET", "/whoami").status == 200


# Buckets


@given(st.lists(st.floats(0, 10)), st.floats(0.1, 100), st.integers(1, 20))
def test_a_bucket_never_gives_more_than_its_burst_and_its_rate(pauses, rate, burst):
    now = 0.0
    buckets = Buckets(rate, burst, clock=lambda: now)
    given_ = 0
    for pause in pauses:
        now += pause
        wait = buckets.take("a")
        given_ += not wait
        assert given_ <= burst + now * rate + 1e-6
        if wait:
            now += wait + 1e-9
            assert buckets.take("a") == 0, "after the time that was said there is one"
            given_ += 1


def test_a_clock_that_goes_back_gives_nothing():
    times = iter([10.0, 5.0, 0.0, 0.0])
    buckets = Buckets(1, 1, clock=lambda: next(times))
    assert buckets.take("a") == 0
    assert buckets.take("a") > 0


def test_the_memory_for_callers_is_bounded_and_the_busy_ones_are_kept():
    now = 0.0
    buckets = Buckets(1, 3, most=100, clock=lambda: now)
    for i in range(1000):
        buckets.take("busy")
        buckets.take(f"caller {i}")
    assert len(buckets._levels) == 100
    assert buckets.take("busy") > 0


def test_a_refusal_of_a_websocket_by_a_server_that_has_no_words_for_it_is_a_close():
    from eunomia.server.asgi import refuse
    from eunomia.server.problems import ApiError

    sent = []

    async def send(message):
        sent.append(message)

    asyncio.run(refuse({"type": "websocket"}, None, send, ApiError(429, "slowly")))
    assert sent == [{"type": "websocket.close", "code": 1008, "reason": "slowly"}]


def test_other_kinds_of_connections_pass():
    passed = []

    async def application(connection, receive, send):
        passed.append(connection["type"])

    for wrapped in (Limits(application), Authentication(application, None)):
        asyncio.run(wrapped({"type": "lifespan"}, None, None))
    assert passed == ["lifespan", "lifespan"]


def test_callers_in_threads_are_all_answered(served, at):
    server = served(FREE, at)
    sizes = []

    def ask():
        sizes.extend(server.ask("POST", "/size", KILO).body["size"] for _ in range(20))

    threads = [threading.Thread(target=ask) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sizes == [1000] * 160
