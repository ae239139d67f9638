# SPDX-License-Identifier: BSD-2-Clause
"""Registries over TLS that want a password or a token."""

import base64
import json
import ssl
import urllib.error
import urllib.request

import pytest

from tests.oci import registries
from tests.oci.registries import PASSWORD, USER

LOGIN = {"EUNOMIA_REGISTRY_USERNAME": USER, "EUNOMIA_REGISTRY_PASSWORD": PASSWORD}


@pytest.fixture(scope="module")
def guarded(tmp_path_factory):
    with registries.with_password(tmp_path_factory.mktemp("guarded")) as registry:
        yield registry


@pytest.fixture(scope="module")
def tokens(tmp_path_factory):
    with registries.with_tokens(tmp_path_factory.mktemp("tokens")) as both:
        yield both


def login_file(path, registry, user=USER, password=PASSWORD):
    auth = base64.b64encode(f"{user}:{password}".encode()).decode()
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps({"auths": {registry.host: {"auth": auth}}}))


def test_the_registry_of_these_tests_lets_nobody_in_without_a_password(guarded):
    context = ssl.create_default_context(cafile=guarded.ca)
    with pytest.raises(urllib.error.HTTPError, match="401"):
        urllib.request.urlopen(f"https://{guarded.host}/v2/", context=context)


def test_a_certificate_of_an_unknown_ca_is_refused_before_a_password_is_sent(eunomia, guarded, built):
    said = eunomia("push", built, f"{guarded.host}/mine:1", environment=LOGIN).one_line(1)
    assert "its certificate is not trusted" in said
    assert "--ca-file" in said


def test_a_password_of_the_environment_lets_in(eunomia, guarded, built, tmp_path):
    ca = ("--ca-file", guarded.ca)
    pushed = eunomia("push", built, f"{guarded.host}/mine:1", *ca, environment=LOGIN)
    assert pushed.code == 0, pushed.err
    pull = ("pull", f"{guarded.host}/mine:1", *ca, "--insecure-unsigned", "-o", tmp_path / "x.o")
    assert eunomia(*pull, environment=LOGIN).code == 0
    assert (tmp_path / "x.o").read_bytes() == built.read_bytes()


@pytest.mark.parametrize("place", [".docker/config.json", "elsewhere/config.json", "auth/file.json"])
def test_a_password_that_docker_or_podman_stored_lets_in(eunomia, guarded, built, tmp_path, place):
    login_file(tmp_path / place, guarded)
    where = {"DOCKER_CONFIG": str(tmp_path / "elsewhere")} if place.startswith("elsewhere") else {}
    where |= {"REGISTRY_AUTH_FILE": str(tmp_path / place)} if place.startswith("auth") else {}
    done = eunomia("push", built, f"{guarded.host}/stored:1", "--ca-file", guarded.ca, environment=where)
    assert done.code == 0, done.err


def test_a_credential_helper_lets_in(eunomia, guarded, built, tmp_path):
    helper = tmp_path / "docker-credential-tests"
    helper.write_text(
        f"#!/bin/sh\nread registry\n[ \"$1 $registry\" = 'get {guarded.host}' ] || exit 1\n"
        f'echo \'{{"ServerURL": "x", "Username": "{USER}", "Secret": "{PASSWORD}"}}\'\n'
    )
    helper.chmod(0o755)
    (tmp_path / ".docker").mkdir()
    (tmp_path / ".docker/config.json").write_text(json.dumps({"credHelpers": {guarded.host: "tests"}}))
    import os

    path = {"PATH": f"{tmp_path}:{os.environ['PATH']}"}
    done = eunomia("push", built, f"{guarded.host}/helped:1", "--ca-file", guarded.ca, environment=path)
    assert done.code == 0, done.err


def test_without_a_password_it_says_how_to_log_in(eunomia, guarded, built):
    said = eunomia("push", built, f"{guarded.host}/mine:1", "--ca-file", guarded.ca).one_line(1)
    assert f"it wants a name and password: docker login {guarded.host}" in said


def test_a_wrong_password_is_refused_and_not_repeated(eunomia, guarded, built):
    wrong = LOGIN | {"EUNOMIA_REGISTRY_PASSWORD": "not-the-password"}
    said = eunomia("push", built, f"{guarded.host}/mine:1", "--ca-file", guarded.ca, environment=wrong).one_line(1)
    assert "the registry refuses" in said
    assert "not-the-password" not in said


def test_a_password_is_for_the_registry_that_the_environment_names(eunomia, guarded, built):
    other = LOGIN | {"EUNOMIA_REGISTRY": "registry.example.com"}
    said = eunomia("push", built, f"{guarded.host}/mine:1", "--ca-file", guarded.ca, environment=other).one_line(1)
    assert "it wants a name and password" in said


def test_a_damaged_file_of_logins_is_named(eunomia, guarded, built, tmp_path):
    (tmp_path / ".docker").mkdir()
    (tmp_path / ".docker/config.json").write_text(json.dumps({"auths": {guarded.host: {"auth": "?"}}}))
    said = eunomia("push", built, f"{guarded.host}/mine:1", "--ca-file", guarded.ca).one_line(1)
    assert ".docker/config.json: it is not a file that `docker login` wrote" in said


def test_a_token_is_asked_for_what_is_done_and_no_more(eunomia, tokens, built, tmp_path):
    registry, server = tokens
    ca = ("--ca-file", registry.ca)
    server.asked.clear()
    done = eunomia("push", built, f"{registry.host}/public/mine:1", *ca, environment=LOGIN)
    assert done.code == 0, done.err
    assert server.asked == [("repository:public/mine:pull,push", USER)]
    server.asked.clear()
    done = eunomia("pull", f"{registry.host}/public/mine:1", *ca, "--insecure-unsigned", "-o", tmp_path / "x.o")
    assert done.code == 0, done.err
    assert server.asked == [("repository:public/mine:pull", "")], "nobody may pull what is public"


def test_a_token_without_the_right_lets_nobody_push(eunomia, tokens, built):
    registry, _ = tokens
    said = eunomia("push", built, f"{registry.host}/public/mine:2", "--ca-file", registry.ca).one_line(1)
    assert "the registry refuses" in said


def test_a_wrong_password_gets_no_token(eunomia, tokens, built):
    registry, _ = tokens
    wrong = LOGIN | {"EUNOMIA_REGISTRY_PASSWORD": "wrong"}
    said = eunomia("push", built, f"{registry.host}/mine:1", "--ca-file", registry.ca, environment=wrong).one_line(1)
    assert "it gives no token" in said


def test_signatures_go_through_the_same_login(eunomia, tokens, built, keys):
    registry, _ = tokens
    ca = ("--ca-file", registry.ca)
    pinned = eunomia("push", built, f"{registry.host}/private/signed:1", *ca, environment=LOGIN).out.strip()
    assert eunomia("sign", pinned, "--key", keys.private, *ca, environment=LOGIN).code == 0
    assert eunomia("verify", pinned, "--key", keys.public, *ca, environment=LOGIN).code == 0
    assert "refuses" in eunomia("verify", pinned, "--key", keys.public, *ca).one_line(1)
