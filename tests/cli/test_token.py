# SPDX-License-Identifier: BSD-2-Clause
"""``eunomia token``: tokens are shown once, listed without their secrets, and revoked at once."""

import json
import re

import pytest

from eunomia.server.tokens import Tokens
from tests import needs


@pytest.fixture
def state(tmp_path):
    return tmp_path / "state"


def test_a_token_is_printed_alone_and_can_be_used(eunomia, state):
    done = eunomia("token", "create", "ci", "--scope", "run", "--expires", "30d", "--state", state)
    assert done.code == 0
    text = done.out.removesuffix("\n")
    token = Tokens(state).verify(text)
    assert (token.name, token.scopes, (token.expires - token.created).days) == ("ci", ("run",), 30)
    assert re.fullmatch(rf"eunomia: token {token.id} \(ci\): run, until \S+; it is not shown again\n", done.err)


def test_without_options_a_token_can_read_for_90_days(eunomia, state):
    token = Tokens(state).verify(eunomia("token", "create", "ci", "--state", state).out.strip())
    assert (token.scopes, (token.expires - token.created).days) == (("read",), 90)


def test_a_token_may_have_no_end_and_several_scopes(eunomia, state):
    done = eunomia("token", "create", "ci", "--scope", "read,load", "--scope", "run", "--expires", "never", "--state", state, "-o", "json")
    shown = json.loads(done.out)
    assert (shown["scopes"], shown["expires"], done.err) == (["read", "run", "load"], None, "")
    assert Tokens(state).verify(shown["token"]).id == shown["id"]


def test_the_list_has_all_but_the_secrets(eunomia, state):
    text = eunomia("token", "create", "ci", "--scope", "run", "--state", state).out.strip()
    before = json.loads(eunomia("token", "list", "-o", "json", "--state", state).out)
    assert (before["name"], before["scopes"], before["state"], before["last_used"]) == ("ci", ["run"], "valid", None)
    Tokens(state).verify(text)
    after = json.loads(eunomia("token", "list", "-o", "json", "--state", state).out)
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", after["last_used"])
    table = eunomia("token", "list", "--state", state).out
    assert table.splitlines()[0].split() == ["ID", "NAME", "SCOPES", "STATE", "CREATED", "EXPIRES", "LAST", "USED"]
    assert table.splitlines()[1].split()[:4] == [after["id"], "ci", "run", "valid"]
    assert text.split("_", 2)[2] not in table + json.dumps(after)


def test_a_revoked_token_is_refused_and_listed(eunomia, state):
    text = eunomia("token", "create", "ci", "--state", state).out.strip()
    number = text.split("_")[1]
    done = eunomia("token", "revoke", number, "--state", state)
    assert (done.code, done.out) == (0, f"token {number} (ci) is revoked\n")
    assert Tokens(state).verify(text) is None
    assert json.loads(eunomia("token", "list", "-o", "json", "--state", state).out)["state"] == "revoked"


def test_what_is_done_to_tokens_is_in_the_audit_log(eunomia, state):
    number = eunomia("token", "create", "ci", "--scope", "run", "--state", state).out.split("_")[1]
    eunomia("token", "revoke", number, "--state", state)
    shown = [json.loads(line) for line in eunomia("audit", "show", "-o", "json", "--state", state).out.splitlines()]
    assert [(r["action"], r["target"], r["outcome"]) for r in shown] == [
        ("token.create", "ci", "begun"), ("token.create", "ci", "done"),
        ("token.revoke", number, "begun"), ("token.revoke", number, "done"),
    ]  # fmt: skip
    assert (shown[1]["details"]["token"], shown[0]["details"]["scopes"]) == (number, ["run"])
    assert shown[0]["who"]["kind"] == "local"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["token"], "required: ACTION"),
        (["token", "create"], "required: NAME"),
        (["token", "create", "a b"], "'a b' is no name for a token"),
        (["token", "create", "a\x1b[2J"], "is no name for a token"),
        (["token", "create", "a", "--scope", "root"], "there is no scope 'root': there are read, run, load, admin"),
        (["token", "create", "a", "--expires", "soon"], "--expires: 'soon' is not a time"),
        (["token", "revoke"], "required: ID"),
    ],
)
def test_wrong_usage_is_one_line_and_exit_code_2(eunomia, state, words, said):
    assert said in eunomia(*words, *(["--state", state] if len(words) > 1 else [])).one_line(2)
    assert not state.exists()


def test_an_unknown_id_revokes_nothing(eunomia, state):
    text = eunomia("token", "create", "ci", "--state", state).out.strip()
    said = eunomia("token", "revoke", text.split("_")[1], "nosuch", "--state", state).one_line(1)
    assert "'nosuch'" in said
    assert Tokens(state).verify(text)


def test_a_file_that_cannot_be_used_is_one_line(eunomia, state):
    eunomia("token", "create", "ci", "--state", state)
    (state / "tokens.json").write_text("{")
    for words in (["create", "b"], ["list"], ["revoke", "a"]):
        assert "tokens.json: not a file of tokens" in eunomia("token", *words, "--state", state).one_line(1)


def test_who_is_not_root_may_not_read_the_state(eunomia, state):
    needs.root()
    eunomia("token", "create", "ci", "--state", state)
    for words in (["token", "list"], ["token", "create", "b"], ["audit", "head"], ["audit", "show"], ["audit", "verify"]):
        assert "Permission denied" in eunomia(*words, "--state", state, nobody=True).one_line(1), words
