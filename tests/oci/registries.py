# SPDX-License-Identifier: BSD-2-Clause
"""Real registries (Debian's docker-registry) on this machine, with certificates and logins of the tests' own."""

from __future__ import annotations

import base64
import hashlib
import http.server
import json
import socket
import ssl
import subprocess
import threading
import time
import urllib.error
import urllib.request
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

from tests import needs

USER, PASSWORD = "tester", "open-sesame"
_HTPASSWD = f"{USER}:$2b$05$bS8yp90LoRkw9uPWnkwsdeGdZiai09zoSpxdCrRuBYd/ZMGwNWfWK\n"  # PASSWORD by bcrypt
_CONFIG = """
version: 0.1
log: {{level: error, accesslog: {{disabled: true}}}}
storage: {{filesystem: {{rootdirectory: {root}/data}}}}
http:
  addr: "127.0.0.1:{port}"
{more}
"""


class Registry:
    """A registry that answers: ``host`` is its name for users, ``ca`` the file of its CA (empty without TLS)."""

    def __init__(self, host: str, ca: str = "") -> None:
        self.host = host
        self.ca = ca

    def get(self, path: str, accept: str = "application/vnd.oci.image.manifest.v1+json") -> bytes:
        """Return what the registry itself answers to anybody who asks; without TLS only."""
        return self._ask("GET", f"http://{self.host}/v2/{path}", None, {"Accept": accept})[0]

    def put(self, path: str, data: bytes, content_type: str) -> str:
        """Store a blob (``path`` is a repository and ``blobs``) or a manifest, without any of Eunomia's code."""
        url = f"http://{self.host}/v2/{path}"
        if path.endswith("/blobs"):
            _, headers = self._ask("POST", f"{url}/uploads/", b"", {})
            url = f"{headers['Location']}&digest=sha256:{hashlib.sha256(data).hexdigest()}"
        return self._ask("PUT", url, data, {"Content-Type": content_type})[1]["Docker-Content-Digest"]

    @staticmethod
    def _ask(method: str, url: str, data: bytes | None, headers: dict[str, str]) -> tuple[bytes, Mapping[str, str]]:
        request = urllib.request.Request(url, method=method, data=data, headers=headers)  # noqa: S310
        with urllib.request.urlopen(request, timeout=30 * needs.PATIENCE) as answer:  # noqa: S310
            return answer.read(), answer.headers


@contextmanager
def running(root: Path, more: str = "", ca: Path | None = None) -> Iterator[Registry]:
    """Run a registry whose files are in ``root``; ``more`` is added to its configuration."""
    program = needs.program("docker-registry", "docker-registry")
    root.mkdir(parents=True, exist_ok=True)
    for _ in range(5):  # somebody else may take the port first
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        (root / "config.yml").write_text(_CONFIG.format(root=root, port=port, more=more))
        with (root / "log").open("wb") as log:
            process = subprocess.Popen([program, "serve", root / "config.yml"], stdout=log, stderr=log)
        try:
            if _answers(process, port, ca):
                yield Registry(f"127.0.0.1:{port}", str(ca or ""))
                return
        finally:
            process.kill()
            process.wait()
    raise AssertionError((root / "log").read_text())


def _answers(process: subprocess.Popen[bytes], port: int, ca: Path | None) -> bool:
    """Wait until the registry answers; return whether it does, or has ended."""
    context = ssl.create_default_context(cafile=ca) if ca else None
    url = f"http{'s' if ca else ''}://127.0.0.1:{port}/v2/"
    end = time.monotonic() + 60 * needs.PATIENCE
    while process.poll() is None:
        try:
            with urllib.request.urlopen(url, context=context, timeout=5):  # noqa: S310
                return True
        except urllib.error.HTTPError:
            return True  # it wants a login
        except OSError:
            assert time.monotonic() < end, "the registry does not answer"
            time.sleep(0.02)
    return False


def certificates(root: Path) -> tuple[Path, Path, Path]:
    """Make a CA, and a certificate for 127.0.0.1; return the CA's file, the certificate's and its key's."""
    openssl = needs.program("openssl", "openssl")
    root.mkdir(parents=True, exist_ok=True)
    (root / "san").write_text("subjectAltName=IP:127.0.0.1,DNS:localhost\n")
    new = [openssl, "req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]
    for command in (
        [*new, "-x509", "-days", "2", "-subj", "/CN=CA of the tests", "-keyout", "ca.key", "-out", "ca.crt"],
        [*new, "-subj", "/CN=127.0.0.1", "-keyout", "server.key", "-out", "server.csr"],
        [openssl, "x509", "-req", "-days", "2", "-in", "server.csr", "-CA", "ca.crt", "-CAkey", "ca.key",
         "-CAcreateserial", "-extfile", "san", "-out", "server.crt"],
    ):  # fmt: skip
        subprocess.run(command, cwd=root, check=True, capture_output=True)
    return root / "ca.crt", root / "server.crt", root / "server.key"


@contextmanager
def with_password(root: Path) -> Iterator[Registry]:
    """Run a registry over TLS that wants USER and PASSWORD by basic authentication."""
    ca, certificate, key = certificates(root)
    (root / "htpasswd").write_text(_HTPASSWD)
    more = f"  tls: {{certificate: {certificate}, key: {key}}}\n"
    more += f"auth: {{htpasswd: {{realm: tests, path: {root}/htpasswd}}}}"
    with running(root, more, ca) as registry:
        yield registry


@contextmanager
def with_tokens(root: Path) -> Iterator[tuple[Registry, TokenServer]]:
    """Run a registry over TLS that wants tokens, and the server that gives them."""
    ca, certificate, key = certificates(root)
    with TokenServer(certificate, key) as tokens:
        more = f"  tls: {{certificate: {certificate}, key: {key}}}\n"
        more += f"auth: {{token: {{realm: '{tokens.url}', service: tests, issuer: tests, rootcertbundle: {certificate}}}}}"
        with running(root, more, ca) as registry:
            yield registry, tokens


class TokenServer:
    """Gives tokens as a registry's own service does: all may pull from public/, USER may do everything.

    ``asked`` are the scopes that were asked for, and by whom; a small server of the tests' own, by the
    specification of distribution.
    """

    def __init__(self, certificate: Path, key: Path) -> None:
        self.asked: list[tuple[str, str]] = []
        self._certificate, self._key = certificate, key
        outer = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                outer._answer(self)

            def log_message(self, *_: object) -> None: ...

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate, key)
        self._server.socket = context.wrap_socket(self._server.socket, server_side=True)
        self.url = f"https://127.0.0.1:{self._server.server_address[1]}/token"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True)

    def __enter__(self) -> TokenServer:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    def _answer(self, request: http.server.BaseHTTPRequestHandler) -> None:
        login = request.headers.get("Authorization", "")
        user = ""
        if login:
            user, _, password = base64.b64decode(login.removeprefix("Basic ")).decode().partition(":")
            if (user, password) != (USER, PASSWORD):
                request.send_error(401)
                return
        query = parse_qs(urlsplit(request.path).query)
        kind, name, actions = query["scope"][0].split(":")
        self.asked.append((query["scope"][0], user))
        allowed = actions.split(",") if user else ["pull"] if name.startswith("public/") else []
        body = json.dumps({"token": self._token([{"type": kind, "name": name, "actions": allowed}])}).encode()
        request.send_response(200)
        request.send_header("Content-Length", str(len(body)))
        request.end_headers()
        request.wfile.write(body)

    def _token(self, access: list[dict[str, object]]) -> str:
        """Return a JWT, signed by ES256 with the certificate that the registry trusts."""
        from cryptography.hazmat.primitives import hashes, serialization
        from cryptography.hazmat.primitives.asymmetric import ec
        from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature

        der = "".join(self._certificate.read_text().split("-----")[2].split())
        now = int(time.time())
        head = {"typ": "JWT", "alg": "ES256", "x5c": [der]}
        claims = {
            "iss": "tests", "sub": "", "aud": "tests", "exp": now + 300, "nbf": now - 60, "iat": now,
            "jti": uuid.uuid4().hex, "access": access,
        }  # fmt: skip
        signed = b".".join(map(_base64url, (json.dumps(head).encode(), json.dumps(claims).encode())))
        key = serialization.load_pem_private_key(self._key.read_bytes(), None)
        assert isinstance(key, ec.EllipticCurvePrivateKey)
        r, s = decode_dss_signature(key.sign(signed, ec.ECDSA(hashes.SHA256())))
        return (signed + b"." + _base64url(r.to_bytes(32, "big") + s.to_bytes(32, "big"))).decode()


def _base64url(data: bytes) -> bytes:
    return base64.urlsafe_b64encode(data).rstrip(b"=")
