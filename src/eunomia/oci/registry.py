# SPDX-License-Identifier: BSD-2-Clause
"""A registry, by the OCI distribution spec: manifests and blobs of a repository, read and written.

Nothing that it sends is believed: bytes are returned only if they have the digest and size that were asked for.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping
from urllib.parse import parse_qsl, urlencode, urljoin, urlsplit, urlunsplit

import msgspec

from eunomia.oci import challenge
from eunomia.oci.artefact import DOCKER_INDEX, DOCKER_MANIFEST, INDEX, MANIFEST, MOST_MANIFEST, Descriptor
from eunomia.oci.credentials import Credentials
from eunomia.oci.errors import NotFound, RegistryError
from eunomia.oci.reference import Reference, digest_of, is_digest
from eunomia.oci.transport import Answer, NotTLS, Transport, is_loopback
from eunomia.oci.untrusted_json import Unreadable, decode
from eunomia.typing import NamedTuple

_MOST_ANSWER = 1 << 20  # bytes of a token, an error
_REDIRECTS = 4
_TOKEN = 1 << 16  # characters
_ACCEPTED = ", ".join((MANIFEST, INDEX, DOCKER_MANIFEST, DOCKER_INDEX))
_HUB = {"docker.io": "registry-1.docker.io", "index.docker.io": "registry-1.docker.io"}


class Fetched(NamedTuple):
    """A manifest as the registry has it."""

    data: bytes
    media_type: str
    digest: str


class Registry:
    """One repository in a registry.

    Without TLS it is asked only if it is on this machine and does not speak it, or if ``plain`` is true.
    """

    def __init__(
        self, transport: Transport, where: Reference, login: Credentials | None = None, *, plain: bool = False
    ) -> None:
        self.reference = where
        self._transport = transport
        self._login = login
        self._plain = plain
        self._base = ""
        self._authorizations: dict[str, str] = {}  # for "pull" and "pull,push"

    # Reading

    def manifest(self, tag_or_digest: str) -> Fetched:
        """Return a manifest; raises :class:`NotFound`, :class:`RegistryError`."""
        path = f"/v2/{self.reference.repository}/manifests/{tag_or_digest}"
        answer = self._ask("GET", path, headers={"Accept": _ACCEPTED}, most=MOST_MANIFEST)
        self._expect(answer, 200, tag_or_digest)
        found = digest_of(answer.body)
        told = answer.headers.get("Docker-Content-Digest", found)
        if found != (tag_or_digest if is_digest(tag_or_digest) else told):
            raise RegistryError(f"{self._named(tag_or_digest)}: the registry sent something else, with digest {found}")
        return Fetched(answer.body, answer.headers.get("Content-Type", "").partition(";")[0].strip(), found)

    def blob(self, of: Descriptor, most: int) -> bytes:
        """Return the bytes that a descriptor names; raises :class:`NotFound`, :class:`RegistryError`."""
        if of.size > most:
            raise RegistryError(f"{self._named(of.digest)}: it has {of.size} bytes, more than the {most} allowed")
        path = f"/v2/{self.reference.repository}/blobs/{of.digest}"
        answer = self._ask("GET", path, headers={}, most=of.size)
        self._expect(answer, 200, of.digest)
        if len(answer.body) != of.size or digest_of(answer.body) != of.digest:
            raise RegistryError(
                f"{self._named(of.digest)}: the registry sent something else, {len(answer.body)} bytes of "
                f"{of.size} with digest {digest_of(answer.body)}"
            )
        return answer.body

    # Writing

    def push_blob(self, data: bytes) -> None:
        """Store bytes, unless the registry has them already."""
        repository, digest = self.reference.repository, digest_of(data)
        there = self._ask("HEAD", f"/v2/{repository}/blobs/{digest}", headers={}, most=0, push=True)
        if there.status == 200:
            return
        uploads = f"/v2/{repository}/blobs/uploads/"
        begun = self._ask("POST", uploads, headers={}, most=_MOST_ANSWER, push=True, body=b"")
        self._expect(begun, 202, digest)
        where = urlsplit(self._join(self._base, begun.headers.get("Location", "")))
        query = urlencode([*parse_qsl(where.query, keep_blank_values=True), ("digest", digest)])
        ends = self._ask(
            "PUT", urlunsplit(where._replace(query=query)), headers={"Content-Type": "application/octet-stream"},
            most=_MOST_ANSWER, push=True, body=data,
        )  # fmt: skip
        self._expect(ends, 201, digest)

    def push_manifest(self, data: bytes, tag: str = "", media_type: str = MANIFEST) -> str:
        """Store a manifest, under a tag or its digest alone; return its digest."""
        digest = digest_of(data)
        path = f"/v2/{self.reference.repository}/manifests/{tag or digest}"
        answer = self._ask("PUT", path, headers={"Content-Type": media_type}, most=_MOST_ANSWER, push=True, body=data)
        self._expect(answer, 201, tag or digest)
        return digest

    # Asking

    def _ask(
        self, method: str, path: str, *, headers: Mapping[str, str], most: int, push: bool = False,
        body: bytes | None = None,
    ) -> Answer:  # fmt: skip
        """Make a request with what the registry wants to know of us; follow redirects of what is read."""
        base = self._origin()
        url = urljoin(base, path)
        self._check(url)
        actions = "pull,push" if push else "pull"
        for is_second in (False, True):
            known = self._authorizations.get(actions)
            told = {"Authorization": known} if known and _origin_of(url) == base else {}
            answer = self._follow(method, url, {**headers, **told}, max(most, _MOST_ANSWER), body)
            if answer.status != 401 or is_second or _origin_of(url) != base:
                break  # at first a token may only be too old
            self._authorizations[actions] = self._authorize(answer, actions)
        if answer.status < 300 and len(answer.body) > most:
            raise RegistryError(f"{self._named()}: its answer has more than the {most} bytes that are allowed")
        return answer

    def _follow(self, method: str, url: str, headers: Mapping[str, str], most: int, body: bytes | None) -> Answer:
        for _ in range(_REDIRECTS + 1):
            answer = self._transport.request(method, url, headers=headers, most=most, body=body)
            if answer.status not in {301, 302, 303, 307, 308} or method not in {"GET", "HEAD"}:
                return answer
            target = self._join(url, answer.headers.get("Location", ""))
            self._check(target)
            if _origin_of(target) != _origin_of(url):  # who we are is for the registry alone
                headers = {name: value for name, value in headers.items() if name != "Authorization"}
            url = target
        raise RegistryError(f"{self._named()}: it redirects more than {_REDIRECTS} times")

    def _join(self, base: str, told: str) -> str:
        """Return where a registry sends us; raises :class:`RegistryError` if it is no address."""
        try:
            return urljoin(base, told)
        except ValueError:
            raise RegistryError(f"{self._named()}: it leads to {told[:200]!r}, which is not followed") from None

    def _check(self, url: str) -> None:
        """Refuse to go where a registry sends us, unless it is a web server and as safe as the registry."""
        try:
            parts = urlsplit(url)
            host, _ = parts.hostname, parts.port
        except ValueError:
            host, parts = None, urlsplit("")
        if parts.scheme not in {"http", "https"} or not host or parts.username is not None:
            raise RegistryError(f"{self._named()}: it leads to {url[:200]!r}, which is not followed")
        if parts.scheme == "http" and not self._origin().startswith("http:"):
            raise RegistryError(f"{self._named()}: it leads to {url[:200]!r}, which has no TLS")
        if parts.scheme == "http" and not (self._plain or is_loopback(host)):
            raise RegistryError(f"{self._named()}: it leads to {url[:200]!r}, another machine, without TLS")

    def _origin(self) -> str:
        """Return how the registry's addresses begin; find out whether it speaks TLS, if it need not."""
        if not self._base:
            host = _HUB.get(self.reference.registry, self.reference.registry)
            self._base = f"{'http' if self._plain else 'https'}://{host}"
            if not self._plain and is_loopback(urlsplit(self._base).hostname or ""):
                try:
                    self._transport.request("GET", f"{self._base}/v2/", headers={}, most=_MOST_ANSWER)
                except NotTLS:
                    self._base = f"http://{host}"
        return self._base

    def _authorize(self, answer: Answer, actions: str) -> str:
        """Return the value of Authorization that a refused request should have had."""
        found = {one.scheme: one for one in challenge.read(answer.headers.get("WWW-Authenticate", ""))}
        login = self._login
        if "bearer" in found:
            return f"Bearer {self._token(found['bearer'].parameters, actions)}"
        if "basic" in found and login is not None and login.user:
            return _basic(login)
        if "basic" in found:
            raise RegistryError(
                f"{self._named()}: it wants a name and password: docker login {self.reference.registry}, or set "
                "EUNOMIA_REGISTRY_USERNAME and EUNOMIA_REGISTRY_PASSWORD"
            )
        raise RegistryError(f"{self._named()}: it refuses, and asks for neither a password nor a token")

    def _token(self, parameters: Mapping[str, str], actions: str) -> str:
        realm = self._join(self._origin(), parameters.get("realm", ""))
        self._check(realm)
        asked = {"scope": f"repository:{self.reference.repository}:{actions}"}
        if parameters.get("service"):
            asked["service"] = parameters["service"]
        login = self._login
        headers = {}
        if login is not None and login.refresh:
            form = {**asked, "grant_type": "refresh_token", "refresh_token": login.refresh, "client_id": "eunomia"}
            answer = self._transport.request(
                "POST", realm, headers={"Content-Type": "application/x-www-form-urlencoded"},
                most=_MOST_ANSWER, body=urlencode(form).encode(),
            )  # fmt: skip
        else:
            if login is not None:
                headers["Authorization"] = _basic(login)
            url = f"{realm}{'&' if '?' in realm else '?'}{urlencode(asked)}"
            answer = self._transport.request("GET", url, headers=headers, most=_MOST_ANSWER)
        where = urlsplit(realm).netloc
        if answer.status != 200:
            hint = "" if login else f": docker login {self.reference.registry} may help"
            raise RegistryError(f"{where}: it gives no token for {self._named()} ({_said(answer)}){hint}")
        try:
            told = decode(answer.body, _Token)
        except Unreadable:
            raise RegistryError(f"{where}: its token cannot be read") from None
        token = told.token or told.access_token
        if not token or len(token) > _TOKEN or not (token.isascii() and token.isprintable()) or " " in token:
            raise RegistryError(f"{where}: its answer has no token")
        return token

    def _expect(self, answer: Answer, status: int, what: str) -> None:
        if answer.status == status:
            return
        if answer.status == 404:
            raise NotFound(f"{self._named(what)}: the registry does not have it")
        if answer.status in {401, 403}:
            raise RegistryError(f"{self._named(what)}: the registry refuses: {_said(answer)}")
        raise RegistryError(f"{self._named(what)}: the registry answered {_said(answer)}")

    def _named(self, what: str = "") -> str:
        sign = "@" if is_digest(what) else ":"
        return f"{self.reference.name}{sign + what if what else ''}"


class _Token(msgspec.Struct):
    token: str = ""
    access_token: str = ""


class _Error(msgspec.Struct):
    code: str = ""
    message: str = ""


class _Errors(msgspec.Struct):
    errors: list[_Error] = []


def _said(answer: Answer) -> str:
    """Return the status, and the registry's own words for it if there are any."""
    try:
        errors = decode(answer.body, _Errors).errors
    except Unreadable:
        errors = []
    words = ", ".join(filter(None, (one.message or one.code for one in errors)))
    return f"{answer.status}, {words[:200]}" if words else str(answer.status)


def _basic(login: Credentials) -> str:
    return f"Basic {base64.b64encode(f'{login.user}:{login.password}'.encode()).decode()}"


def _origin_of(url: str) -> str:
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc}"
