# SPDX-License-Identifier: BSD-2-Clause
"""Credentials and certificates that are replaced while they are used, of a pod and of a kubeconfig."""

from __future__ import annotations

import base64
import ssl
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests import needs
from tests.kubernetes.fake import PODS, FakeApi, fake_api


@pytest.fixture(scope="module")
def certificates(tmp_path_factory) -> list[Path]:
    """Two of a server at 127.0.0.1, each its own authority; the keys are beside them."""
    openssl = needs.program("openssl", "openssl")
    made = [tmp_path_factory.mktemp("tls") / f"{name}.crt" for name in ("one", "two")]
    for path in made:
        command = [openssl, "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
        command += ["-days", "2", "-subj", "/CN=fake", "-addext", "subjectAltName=IP:127.0.0.1"]
        subprocess.run([*command, "-out", str(path), "-keyout", f"{path}.key"], capture_output=True, check=True)
    return made


@pytest.fixture
def tls(certificates) -> ssl.SSLContext:
    """The server's; another certificate may be loaded while it serves."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    present(context, certificates[0])
    return context


def present(context: ssl.SSLContext, certificate: Path) -> None:
    context.load_cert_chain(certificate, f"{certificate}.key")


@pytest.fixture
def secure(tls) -> Iterator[FakeApi]:
    needs.module("kubernetes", "eunomia[kubernetes]")
    with fake_api(tls) as running:
        yield running


@pytest.fixture
def account(secure, certificates, tmp_path, monkeypatch) -> Path:
    """The directory of a pod's service account, where this process finds it."""
    from kubernetes.config import incluster_config

    (tmp_path / "token").write_text("first")
    (tmp_path / "ca.crt").write_bytes(certificates[0].read_bytes())
    monkeypatch.setattr("eunomia.kubernetes.access._TOKEN", str(tmp_path / "token"))
    monkeypatch.setattr(incluster_config, "SERVICE_TOKEN_FILENAME", str(tmp_path / "token"))
    monkeypatch.setattr(incluster_config, "SERVICE_CERT_FILENAME", str(tmp_path / "ca.crt"))
    host, _, port = secure.host.removeprefix("https://").partition(":")
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", host)
    monkeypatch.setenv("KUBERNETES_SERVICE_PORT", port)
    return tmp_path


def test_a_pods_token_is_read_again_each_minute_and_when_it_is_refused(secure, account, monkeypatch):
    import datetime

    from kubernetes.config import incluster_config

    from eunomia.kubernetes.access import Access, Refused

    access = Access()
    access.get(PODS, {}, 5).close()
    (account / "token").write_text("second")
    access.get(PODS, {}, 5).close()
    secure.refuse[PODS] = 401
    with pytest.raises(Refused):
        access.get(PODS, {}, 5)
    secure.refuse.clear()
    access.get(PODS, {}, 5).close()
    (account / "token").write_text("third")

    class Later(datetime.datetime):
        @classmethod
        def now(cls, tz=None):
            return super().now(tz) + datetime.timedelta(seconds=61)

    monkeypatch.setattr(incluster_config.datetime, "datetime", Later)
    access.get(PODS, {}, 5).close()
    assert [r.token for r in secure.asked()] == [f"bearer {word}" for word in ("first", "first", "first", "second", "third")]


def test_a_pods_authority_that_is_replaced_is_read_again(secure, account, tls, certificates):
    from eunomia.kubernetes.access import Access, Unreachable

    access = Access()
    access.get(PODS, {}, 5).close()
    present(tls, certificates[1])
    with pytest.raises(Unreachable, match="CERTIFICATE_VERIFY_FAILED"):
        access.get(PODS, {}, 5)
    (account / "ca.crt").write_bytes(certificates[1].read_bytes())
    access.get(PODS, {}, 5).close()


def test_a_kubeconfigs_authority_that_is_replaced_is_read_again(secure, tls, certificates, tmp_path):
    """It stands in the kubeconfig itself, of which the client keeps a copy."""
    from eunomia.kubernetes.access import Access, Unreachable

    def write(certificate: Path) -> None:
        authority = base64.b64encode(certificate.read_bytes()).decode()
        (tmp_path / "config").write_text(
            f"""apiVersion: v1
kind: Config
clusters: [{{name: fake, cluster: {{server: "{secure.host}", certificate-authority-data: {authority}}}}}]
users: [{{name: me, user: {{token: secret}}}}]
contexts: [{{name: fake, context: {{cluster: fake, user: me}}}}]
current-context: fake
"""
        )

    write(certificates[0])
    access = Access(str(tmp_path / "config"))
    access.get(PODS, {}, 5).close()
    present(tls, certificates[1])
    write(certificates[1])
    with pytest.raises(Unreachable, match="CERTIFICATE_VERIFY_FAILED"):
        access.get(PODS, {}, 5)
    access.get(PODS, {}, 5).close()
