# SPDX-License-Identifier: BSD-2-Clause
"""Whatever a registry answers, nothing runs or is written that was not asked for, within bounds of bytes and time."""

import json
import os
import platform
import socket
import subprocess
import sys
import threading
import time

import pytest

from eunomia.oci import artefact, fetch, reference, settings
from eunomia.oci.errors import BadArtefact, DistributionError, RegistryError
from eunomia.oci.policy import Policy
from eunomia.oci.reference import digest_of
from tests import needs
from tests.oci import registries
from tests.oci.hostile import HostileRegistry, body, redirect

OBJECT = b"an object"


@pytest.fixture
def hostile():
    with HostileRegistry() as server:
        yield server
        server.shutdown()


@pytest.fixture
def packed():
    about = artefact.Object(digest=digest_of(OBJECT), size=len(OBJECT), architectures=[platform.machine()])
    return artefact.pack(artefact.Config(name="mine", objects=[about]), [OBJECT], {})


@pytest.fixture
def stored(hostile, packed):
    hostile.store("mine", "1", packed.manifest, *packed.blobs.values())
    return hostile


def pull(server, seconds=60.0, **changes):
    relaxed = settings.Settings(Policy(require_signed=False), seconds=seconds, **changes)
    return fetch.fetch(reference.parse(f"{server.host}/mine:1"), relaxed)


def blob(data):
    return f"/v2/mine/blobs/{digest_of(data)}"


def test_the_hostile_registry_is_a_right_one_until_it_is_told_otherwise(stored):
    assert pull(stored).object == OBJECT


@pytest.mark.parametrize("sent", [b"", b"an  bject", b"an objec", b"an object and more"])
def test_other_bytes_than_the_digest_says_are_refused(stored, sent):
    stored.answers[blob(OBJECT)] = body(sent)
    with pytest.raises(RegistryError, match=r"something else|more than the 9 bytes"):
        pull(stored)


def test_another_manifest_than_the_digest_says_is_refused(stored, packed):
    stored.answers["/v2/mine/manifests/"] = body(packed.manifest + b" ")
    pinned = reference.parse(f"{stored.host}/mine@{packed.digest}")
    with pytest.raises(RegistryError, match="something else"):
        fetch.fetch(pinned, settings.Settings(Policy(require_signed=False)))
    stored.answers["/v2/mine/manifests/"] = body(packed.manifest, docker_content_digest=digest_of(b"another"))
    with pytest.raises(RegistryError, match="something else"):
        pull(stored)


def endless(request):
    request.send_response(200)
    request.end_headers()
    while True:
        request.wfile.write(b"x" * 65536)


@pytest.mark.parametrize("where", ["/v2/mine/manifests/", "/v2/mine/blobs/", "/v2/"])
def test_a_body_without_an_end_is_cut_off(stored, where):
    stored.answers[where] = endless
    with pytest.raises(RegistryError, match="bytes that are allowed"):
        pull(stored)


def test_a_huge_manifest_takes_no_more_memory_than_is_allowed(stored, eunomia):
    stored.answers["/v2/mine/manifests/"] = endless
    script = (
        "import re, sys; from eunomia.cli import main; code = main(sys.argv[1:]); "
        "print(re.search(r'VmHWM:\\s+(\\d+)', open('/proc/self/status').read())[1]); sys.exit(code)"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, "pull", f"{stored.host}/mine:1", "--insecure-unsigned"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 1
    assert "has more than the 4194304 bytes" in done.stderr
    assert int(done.stdout) < 100_000, "KiB"


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda m: m["config"].update(size=1 << 30), "more than the 1048576 allowed"),
        (lambda m: m["layers"][0].update(size=1 << 39), "not among its layers"),
        (lambda m: m["layers"][0].update(size=-1), "layers"),
        (lambda m: m["layers"][0].update(digest="sha256:../../etc/passwd"), "digest"),
        (lambda m: m["layers"][0].update(digest="sha512:" + "0" * 128), "digest"),
        (lambda m: m.update(layers=m["layers"] * 65), "layers"),
        (lambda m: m.update(layers=[]), "not among its layers"),
        (lambda m: m.update(artifactType="application/x"), "it is not a tracker"),
        (lambda m: m.update(schemaVersion=1), "schema version 1"),
        (lambda m: m.pop("config"), "config"),
        (lambda m: m["config"].update(mediaType="text/html"), "its config is text/html"),
    ],
)
def test_a_manifest_that_lies_is_refused(stored, packed, change, said):
    manifest = json.loads(packed.manifest)
    change(manifest)
    stored.store("mine", "1", json.dumps(manifest).encode())
    with pytest.raises(DistributionError, match=said):
        pull(stored)


@pytest.mark.parametrize("data", [b"", b"null", b"[" * 100_000, b'{"x":' * 100_000, b"\xff\xfe", b"5", b'{"config":' * 5000])
def test_what_is_no_manifest_is_refused(stored, data):
    stored.store("mine", "1", data)
    with pytest.raises(BadArtefact):
        pull(stored)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda c: c.update(name="../../etc/cron.d/x"), "its name"),
        (lambda c: c.update(name="a\x1b[31m\nb"), "its name"),
        (lambda c: c.update(name=""), "name"),
        (lambda c: c["objects"][0].update(digest=digest_of(b"other")), "not among its layers"),
        (lambda c: c["objects"][0].update(size=5), "not among its layers"),
        (lambda c: c.update(objects=[]), "objects"),
        (lambda c: c.update(tracker={"title": "x", "variants": []}), "variants"),
    ],
)
def test_a_description_that_lies_is_refused(stored, packed, change, said):
    manifest = json.loads(packed.manifest)
    config = json.loads(packed.blobs[manifest["config"]["digest"]])
    change(config)
    data = json.dumps(config).encode()
    manifest["config"] |= {"digest": digest_of(data), "size": len(data)}
    stored.store("mine", "1", json.dumps(manifest).encode(), data)
    with pytest.raises(BadArtefact, match=said):
        pull(stored)


@pytest.mark.parametrize("name", ["../x", "/etc/passwd", "a/b", "..", "", "a\nb"])
def test_files_in_an_artefact_cannot_choose_where_they_are_written(stored, packed, eunomia, tmp_path, name):
    manifest = json.loads(packed.manifest)
    data = b"text"
    manifest["layers"].append(
        {"mediaType": artefact.SOURCE, "digest": digest_of(data), "size": 4, "annotations": {artefact.TITLE: name}}
    )
    stored.store("mine", "1", json.dumps(manifest).encode(), data)
    folder = tmp_path / "inside"
    folder.mkdir()
    done = eunomia("pull", f"{stored.host}/mine:1", "--insecure-unsigned", "--files", folder, cwd=folder)
    assert "a file in it is named" in done.one_line(1)
    assert not os.listdir(folder)


@pytest.mark.parametrize(
    "target",
    ["file:///etc/passwd", "ftp://127.0.0.1/x", "gopher://x", "http://192.0.2.1/x", "http://user:pw@127.0.0.1/", "http://[", ""],
)
def test_a_redirect_leads_to_no_file_and_no_other_machine_without_tls(stored, target):
    stored.answers[blob(OBJECT)] = redirect(target)
    with pytest.raises(RegistryError, match=r"which is not followed|without TLS|redirects more"):
        pull(stored)


def test_redirects_come_to_an_end(stored):
    stored.answers[blob(OBJECT)] = redirect(blob(OBJECT))
    with pytest.raises(RegistryError, match="redirects more than 4 times"):
        pull(stored)


def test_a_redirect_to_storage_is_followed_without_who_we_are(stored, monkeypatch):
    monkeypatch.setenv("EUNOMIA_REGISTRY_USERNAME", "me")
    monkeypatch.setenv("EUNOMIA_REGISTRY_PASSWORD", "secret")
    with HostileRegistry() as storage:
        storage.answers["/storage"] = body(OBJECT)

        def first_wants_a_password(request):
            if "Authorization" not in request.headers:
                body(b"", 401, www_authenticate='Basic realm="x"')(request)
            else:
                redirect(f"http://{storage.host}/storage")(request)

        stored.answers[blob(OBJECT)] = first_wants_a_password
        assert pull(stored).object == OBJECT
        storage.shutdown()
    assert [path for path, _ in storage.asked] == ["/storage"]
    assert "Authorization" not in storage.asked[0][1]


@pytest.mark.parametrize(
    "challenge",
    [
        'Bearer realm="file:///etc/passwd"', 'Bearer realm="http://192.0.2.1/token"', "Bearer", "Negotiate", "", "?" * 9000,
        'Bearer realm="/token"', 'Bearer realm="', "Basic " * 2000,
    ],
)  # fmt: skip
def test_a_challenge_that_cannot_be_met_is_an_error(stored, challenge):
    stored.answers["/v2/mine/"] = body(b"", 401, www_authenticate=challenge)
    stored.answers["/token"] = body(b'{"token": "a\\r\\nX-Evil: 1"}')
    with pytest.raises(RegistryError):
        pull(stored)


@pytest.fixture(scope="module")
def certified(tmp_path_factory):
    """Files of a CA, and of a certificate and its key."""
    return registries.certificates(tmp_path_factory.mktemp("tls"))


class TestOverTLS:
    @pytest.fixture
    def secure(self, certified, packed):
        with HostileRegistry(certified[1:]) as server:
            server.store("mine", "1", packed.manifest, *packed.blobs.values())
            yield server
            server.shutdown()

    @pytest.fixture
    def pull_(self, secure, certified, monkeypatch):
        monkeypatch.setenv("EUNOMIA_REGISTRY_USERNAME", "me")
        monkeypatch.setenv("EUNOMIA_REGISTRY_PASSWORD", "secret")
        return lambda: pull(secure, ca_file=str(certified[0]))

    def test_it_is_a_right_one_until_it_is_told_otherwise(self, pull_):
        assert pull_().object == OBJECT

    def test_a_redirect_to_a_place_without_tls_is_refused(self, secure, hostile, pull_):
        secure.answers[blob(OBJECT)] = redirect(f"http://{hostile.host}/storage")
        with pytest.raises(RegistryError, match="which has no TLS"):
            pull_()
        assert hostile.asked == []

    def test_a_password_is_not_sent_for_a_token_without_tls(self, secure, hostile, pull_):
        realm = f'Bearer realm="http://{hostile.host}/token",service="x"'
        secure.answers["/v2/mine/"] = body(b"", 401, www_authenticate=realm)
        with pytest.raises(RegistryError, match="which has no TLS"):
            pull_()
        assert hostile.asked == []

    def test_an_upload_elsewhere_is_sent_without_who_we_are(self, secure, certified, pull_, built, eunomia):
        with HostileRegistry(certified[1:]) as storage:

            def begin(request):
                if "Authorization" not in request.headers:
                    body(b"", 401, www_authenticate='Basic realm="x"')(request)
                else:
                    body(b"", 202, location=f"https://{storage.host}/storage?state=1")(request)

            secure.answers["/v2/mine/blobs/uploads/"] = begin
            storage.answers["/storage"] = body(b"", 201)
            secure.answers["/v2/mine/manifests/"] = body(b"", 201)
            done = eunomia("push", built, f"{secure.host}/mine:1", "--ca-file", certified[0])
            assert done.code == 0, done.err
            storage.shutdown()
        assert storage.asked
        for path, headers in storage.asked:
            assert path.startswith("/storage?state=1&digest=sha256%3A")
            assert "Authorization" not in headers


@pytest.mark.parametrize("part", [b"", b"HTTP/1.1 200 OK\r\nX-A: ", b"HTTP/1.1 200 OK\r\nContent-Length: 99999\r\n\r\n"])
def test_a_registry_that_sends_a_byte_now_and_then_is_left_in_time(part):
    """Each byte comes in time, the whole never: only the time for everything together ends it."""
    enough = threading.Event()

    def serve(listener):
        while not enough.is_set():
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            threading.Thread(target=drip, args=(connection,), daemon=True).start()

    def drip(connection):
        with connection:
            try:
                connection.sendall(part)
                while not enough.wait(0.1):
                    connection.sendall(b"x" if part else b"")
            except OSError:
                return

    with socket.create_server(("127.0.0.1", 0)) as listener:
        threading.Thread(target=serve, args=(listener,), daemon=True).start()
        host = f"127.0.0.1:{listener.getsockname()[1]}"
        relaxed = settings.Settings(Policy(require_signed=False), (host,), seconds=1)
        with pytest.raises(RegistryError, match="it took longer than 1 s"):
            fetch.fetch(reference.parse(f"{host}/mine:1"), relaxed)
        enough.set()


def test_a_proxy_of_the_environment_is_asked_for_other_machines_only(stored, packed, monkeypatch):
    with HostileRegistry() as proxy:
        monkeypatch.setenv("http_proxy", f"http://{proxy.host}")
        monkeypatch.setenv("no_proxy", "")
        assert pull(stored).object == OBJECT
        assert proxy.asked == []
        host = "registry.example.com"
        proxy.contents = {f"http://{host}{path}": data for path, data in stored.contents.items()}
        relaxed = settings.Settings(Policy(require_signed=False), (host,))
        assert fetch.fetch(reference.parse(f"{host}/mine:1"), relaxed).object == OBJECT
        proxy.shutdown()


def test_what_a_registry_says_is_escaped(stored, eunomia):
    words = json.dumps({"errors": [{"code": "X", "message": "\x1b[2Jyou\nare root"}]}).encode()
    stored.answers["/v2/mine/"] = body(words, 500)
    said = eunomia("pull", f"{stored.host}/mine:1", "--insecure-unsigned").one_line(1)
    assert r"500, \x1b[2Jyou\nare root" in said


def test_an_object_that_is_none_does_not_run(stored, eunomia):
    said = eunomia("run", f"oci://{stored.host}/mine:1", "--insecure-unsigned").one_line(1)
    assert f"{stored.host}/mine:1@sha256:" in said
    assert "it is not" in said or "ELF" in said


def test_an_object_that_is_refused_by_libbpf_is_read_in_a_process_without_rights(stored, built, eunomia):
    """The header is right, the rest is not: the error is the sandbox's, and names the artefact."""
    data = built.read_bytes()[:200] + b"\xff" * 2000
    about = artefact.Object(digest=digest_of(data), size=len(data), architectures=[platform.machine()])
    packed = artefact.pack(artefact.Config(name="mine", objects=[about]), [data], {})
    stored.store("mine", "1", packed.manifest, *packed.blobs.values())
    said = eunomia("info", f"oci://{stored.host}/mine:1", "--insecure-unsigned").one_line(1)
    assert said.startswith(f"{stored.host}/mine:1@{packed.digest}: ")


def test_compressed_bodies_are_not_unpacked(stored):
    import gzip

    stored.answers[blob(OBJECT)] = body(gzip.compress(OBJECT), content_encoding="gzip")
    with pytest.raises(RegistryError, match=r"something else|more than"):
        pull(stored)


def test_nothing_stays_open_after_a_pull(stored):
    before = os.listdir("/proc/self/fd")
    for _ in range(5):
        pull(stored)
    end = time.monotonic() + 60 * needs.PATIENCE
    while len(os.listdir("/proc/self/fd")) > len(before):  # threads of the registry may still be at it
        assert time.monotonic() < end, "a connection stays open"
        time.sleep(0.01)
