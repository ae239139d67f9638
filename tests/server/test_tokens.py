# SPDX-License-Identifier: BSD-2-Clause
"""Tokens: what they allow, until when, and what is kept of them."""

import json
import os
import random
import signal
import stat
import subprocess
import sys
import threading
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eunomia.server.audit import AuditLog, directory_of
from eunomia.server.tokens import BadTokens, Scope, Tokens, scopes_of
from tests import needs

DAY = timedelta(days=1)
SERVER = 54321  # some user's id, with no process


@pytest.fixture
def tokens(tmp_path):
    made = Tokens(tmp_path / "state")
    yield made
    made.close()


def test_a_token_is_found_by_its_text_alone(tokens):
    token, text = tokens.create("ci", ["run"], DAY)
    found = tokens.verify(text)
    assert (found.id, found.name, found.allowed) == (token.id, "ci", {Scope.READ, Scope.RUN})


@pytest.mark.parametrize("place", range(-1, 65))
def test_a_text_that_differs_in_one_place_is_no_token(tokens, place):
    _, text = tokens.create("ci", ["run"], DAY)
    place %= len(text)
    wrong = text[:place] + ("a" if text[place] != "a" else "b") + text[place + 1 :]
    assert tokens.verify(wrong) is None


@given(st.text())
def test_no_text_is_a_token_or_an_error(tmp_path_factory, text):
    assert Tokens(tmp_path_factory.getbasetemp()).verify(text) is None


def test_what_a_token_says_besides_is_no_token(tokens):
    _, text = tokens.create("ci", ["run"], DAY)
    for wrong in (f"{text} ", f"{text}\n", f" {text}", f"{text}x", text[:-1], text.upper(), "", "eunomia__", "\udc80"):
        assert tokens.verify(wrong) is None, wrong


def test_the_secret_of_one_token_does_not_open_another(tokens):
    (_, a), (_, b) = tokens.create("a", ["read"], DAY), tokens.create("b", ["admin"], DAY)
    prefix, number, _ = b.split("_", 2)
    assert tokens.verify("_".join([prefix, number, a.split("_", 2)[2]])) is None


def test_each_scope_includes_the_smaller_ones():
    assert scopes_of(["read"]) == {Scope.READ}
    assert scopes_of(["run"]) == {Scope.READ, Scope.RUN}
    assert scopes_of(["load"]) == {Scope.READ, Scope.RUN, Scope.LOAD}
    assert scopes_of(["admin"]) == set(Scope)
    assert scopes_of(["read", "load"]) == scopes_of(["load"])
    assert scopes_of([]) == set()


def test_an_unknown_scope_or_name_is_refused_and_nothing_is_written(tokens):
    for name, scopes in (
        ("ci", ["root"]),
        ("ci", []),
        ("", ["read"]),
        ("a b", ["read"]),
        ("a\x1b[2J", ["read"]),
        ("x" * 65, ["read"]),
    ):
        with pytest.raises(ValueError):
            tokens.create(name, scopes, DAY)
    assert not tokens.path.exists()


def test_a_token_ends_at_the_second_it_expires(tokens):
    token, text = tokens.create("ci", ["run"], DAY)
    assert tokens.verify(text, token.expires - timedelta(seconds=1)) is not None
    assert tokens.verify(text, token.expires) is None
    assert tokens.find(text).state(token.expires) == "expired"
    forever, text = tokens.create("ci", ["run"], None)
    assert tokens.verify(text, datetime(9999, 1, 1, tzinfo=UTC)).id == forever.id


def test_a_revoked_token_ends_at_once_in_every_process(tokens):
    token, text = tokens.create("ci", ["run"], None)
    other = Tokens(tokens.path.parent)
    assert other.verify(text)
    tokens.revoke(token.id)
    assert other.verify(text) is None
    assert other.find(text).state() == "revoked"
    assert tokens.revoke(token.id).revoked == other.find(text).revoked, "revoked again, it is as it was"
    other.close()


def test_to_revoke_what_is_not_there_is_an_error(tokens):
    with pytest.raises(LookupError):
        tokens.revoke("0123456789ab")
    assert not tokens.path.parent.exists()


def test_the_secret_is_not_kept(tokens):
    _, text = tokens.create("ci", ["run"], DAY)
    tokens.verify(text)
    secret = text.split("_", 2)[2]
    for file in tokens.path.parent.iterdir():
        assert secret.encode() not in file.read_bytes(), file


def test_files_are_for_their_owner_alone_whatever_the_umask(tokens):
    before = os.umask(0)
    try:
        _, text = tokens.create("ci", ["run"], DAY)
        tokens.verify(text)
    finally:
        os.umask(before)
    assert stat.S_IMODE(tokens.path.parent.stat().st_mode) == 0o700
    names = {file.name: stat.S_IMODE(file.stat().st_mode) for file in tokens.path.parent.iterdir()}
    assert names == dict.fromkeys(["tokens.json", "tokens.lock", "tokens-used.json"], 0o600)


def test_the_last_use_is_noted_once_a_minute(tokens):
    token, text = tokens.create("ci", ["run"], None)
    begin = datetime(2026, 11, 27, 12, tzinfo=UTC)
    for second in (0, 30, 59, 60, 61):
        tokens.verify(text, begin + timedelta(seconds=second))
        assert tokens.last_used()[token.id] == begin + timedelta(seconds=second // 60 * 60)
    assert tokens.verify("eunomia_0123456789ab_" + "x" * 43) is None
    assert [*tokens.last_used()] == [token.id]


def test_a_use_that_cannot_be_noted_lets_the_token_in(tokens, monkeypatch):
    from eunomia.server import private_file

    def full(*_args, **_options):
        raise OSError(28, "No space left on device")

    _, text = tokens.create("ci", ["run"], None)
    monkeypatch.setattr(private_file, "replace", full)
    assert tokens.verify(text)


def test_a_damaged_account_of_uses_is_as_none(tokens):
    token, text = tokens.create("ci", ["run"], None)
    (tokens.path.parent / "tokens-used.json").write_bytes(b"\xff{")
    assert tokens.last_used() == {}
    tokens.verify(text)
    assert [*tokens.last_used()] == [token.id]


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"[]",
        b'{"tokens": 1}',
        b'{"tokens": [{}]}',
        b'{"version": 2, "tokens": []}',
        b"\xff\xfe",
        b'{"tokens": [], "more": 1}',
        b"null",
    ],
)
def test_a_damaged_file_lets_nobody_in_and_is_not_replaced(tokens, content):
    _, text = tokens.create("ci", ["run"], None)
    tokens.path.write_bytes(content)
    for use in (lambda: tokens.verify(text), lambda: tokens.create("b", ["read"], None), tokens.all):
        with pytest.raises(BadTokens, match=str(tokens.path)):
            use()
    assert tokens.path.read_bytes() == content


def test_a_file_whose_times_have_no_zone_is_refused(tokens):
    _, text = tokens.create("ci", ["run"], DAY)
    content = json.loads(tokens.path.read_text())
    content["tokens"][0]["expires"] = "2999-01-01T00:00:00"
    tokens.path.write_text(json.dumps(content))
    with pytest.raises(BadTokens, match="time zone"):
        tokens.verify(text)


def test_a_file_that_others_may_write_is_refused(tokens):
    _, text = tokens.create("ci", ["run"], None)
    tokens.path.chmod(0o620)
    with pytest.raises(BadTokens, match="chmod 600"):
        tokens.verify(text)
    tokens.path.chmod(0o640)  # to read hashes of secrets that cannot be guessed is no harm
    assert tokens.verify(text)


def test_a_file_of_another_user_is_refused(tokens):
    needs.root()
    _, text = tokens.create("ci", ["run"], None)
    os.chown(tokens.path, SERVER, SERVER)
    with pytest.raises(BadTokens, match=f"belongs to user {SERVER}"):
        tokens.verify(text)


@pytest.mark.parametrize("kind", ["link", "fifo", "directory"])
def test_what_is_no_plain_file_is_refused_without_waiting(tokens, tmp_path, kind):
    _, text = tokens.create("ci", ["run"], None)
    moved = tokens.path.rename(tmp_path / "elsewhere")
    {
        "link": lambda: tokens.path.symlink_to(moved),
        "fifo": lambda: os.mkfifo(tokens.path),
        "directory": tokens.path.mkdir,
    }[kind]()
    with pytest.raises(BadTokens):
        Tokens(tokens.path.parent).verify(text)


def test_what_root_makes_for_the_servers_user_that_user_can_use(tmp_path):
    needs.root()
    state = tmp_path / "state"
    state.mkdir(mode=0o700)
    os.chown(state, SERVER, SERVER)
    _, text = Tokens(state).create("ci", ["run"], None)
    AuditLog(directory_of(state)).append({}, "a", "b", "done")
    assert {(f.stat().st_uid, stat.S_IMODE(f.stat().st_mode)) for f in (state / "audit").iterdir()} == {(SERVER, 0o600)}
    assert ((state / "audit").stat().st_uid, stat.S_IMODE((state / "audit").stat().st_mode)) == (SERVER, 0o700)
    assert {(f.stat().st_uid, f.stat().st_gid, stat.S_IMODE(f.stat().st_mode)) for f in state.iterdir() if f.is_file()} == {(SERVER, SERVER, 0o600)}
    assert Tokens(state).verify(text), "root reads what the server's user owns"


def test_a_link_that_the_servers_user_planted_leads_root_nowhere(tmp_path):
    needs.root()
    state, victim = tmp_path / "state", tmp_path / "victim"
    victim.write_text("precious")
    state.mkdir(mode=0o700)
    os.chown(state, SERVER, SERVER)
    for name in ("tokens.lock", "tokens.json.new"):
        (state / name).symlink_to(victim)
        try:
            Tokens(state).create("ci", ["run"], None)
        except OSError as error:
            assert name in str(error.filename)
        assert (victim.read_text(), victim.stat().st_uid) == ("precious", 0)
        (state / name).unlink(missing_ok=True)


def test_tokens_that_ended_long_ago_are_forgotten(tokens):
    old, _ = tokens.create("old", ["run"], DAY)
    content = json.loads(tokens.path.read_text())
    content["tokens"][0]["expires"] = "2020-01-01T00:00:00Z"
    tokens.path.write_text(json.dumps(content))
    assert [t.id for t in tokens.all()] == [old.id]
    new, _ = tokens.create("new", ["run"], DAY)
    assert [t.id for t in tokens.all()] == [new.id]


def test_a_change_within_a_clock_tick_is_seen(tokens):
    """The kernel's file times are coarse: the inode tells, which the open file keeps from being used again."""
    other = Tokens(tokens.path.parent)
    for _ in range(100):
        token, text = tokens.create("ci", ["run"], None)
        assert other.verify(text)
        tokens.revoke(token.id)
        assert other.verify(text) is None
    other.close()


CREATE = """
import sys
from pathlib import Path
from eunomia.server.tokens import Tokens
tokens = Tokens(Path(sys.argv[1]))
print("ready", flush=True)
for i in range(int(sys.argv[2])):
    print(tokens.create("t", ["read"], None)[1], flush=True)
"""


def test_processes_that_create_at_the_same_time_lose_no_token(tokens):
    started = [
        subprocess.Popen([sys.executable, "-c", CREATE, tokens.path.parent, "20"], stdout=subprocess.PIPE, text=True)
        for _ in range(4)
    ]
    texts = [line for process in started for line in process.communicate()[0].split() if line != "ready"]
    assert len(set(texts)) == 80
    assert all(tokens.verify(text) for text in texts)


def test_threads_that_verify_while_tokens_come_and_go_agree_with_the_file(tokens):
    _, text = tokens.create("stays", ["run"], None)
    found, stop = [], threading.Event()

    def ask():
        own = Tokens(tokens.path.parent)
        while not stop.is_set():
            found.append(own.verify(text) is not None)
        own.close()

    asking = [threading.Thread(target=ask) for _ in range(3)]
    for thread in asking:
        thread.start()
    for _ in range(50):
        tokens.revoke(tokens.create("goes", ["run"], None)[0].id)
    stop.set()
    for thread in asking:
        thread.join()
    assert found
    assert all(found)


def test_threads_may_share_one_object(tokens):
    """Each change has the file opened again: no thread closes what another one has just opened."""
    _, text = tokens.create("stays", ["run"], None)
    failed, stop = [], threading.Event()

    def ask():
        while not stop.is_set():
            try:
                assert tokens.verify(text)
                canary = os.open("/dev/null", os.O_RDONLY)
                os.close(canary)
            except Exception as error:
                failed.append(error)

    asking = [threading.Thread(target=ask) for _ in range(4)]
    for thread in asking:
        thread.start()
    for _ in range(30):
        tokens.revoke(tokens.create("goes", ["run"], None)[0].id)
    stop.set()
    for thread in asking:
        thread.join()
    assert not failed


def test_a_killed_writer_leaves_every_token_that_it_printed(tokens):
    seed = random.randrange(1 << 32)
    chance = random.Random(seed)
    texts = []
    for _ in range(30):
        with subprocess.Popen(
            [sys.executable, "-c", CREATE, tokens.path.parent, "100000"], stdout=subprocess.PIPE, text=True
        ) as process:
            process.stdout.readline()
            for _ in range(chance.randrange(20)):
                texts.append(process.stdout.readline().strip())
            process.send_signal(signal.SIGKILL)
            texts += [line for line in process.stdout.read().split("\n")[:-1] if line]
        assert all(tokens.verify(text) for text in texts), f"seed {seed}"
