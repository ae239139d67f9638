# SPDX-License-Identifier: BSD-2-Clause
"""Bearer tokens: what each allows, until when, and how they are kept.

A token is ``eunomia_ID_SECRET``. The file has the SHA-256 of each secret and no secret. A slow hash, as for passwords,
would add nothing: it makes guessing slow, and 256 random bits cannot be guessed at any speed. It would cost the server
its time for each request instead, and anyone who sends wrong tokens could spend that.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import re
import secrets
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from pathlib import Path
from threading import RLock
from typing import NamedTuple

import msgspec

from eunomia.server import private_file

PREFIX = "eunomia"
_FORM = re.compile(rf"{PREFIX}_([0-9a-f]{{12}})_([A-Za-z0-9_-]{{43}})")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@-]{0,63}")
_SECRET_BYTES = 32
_ID_BYTES = 6
_NOTED_EVERY = timedelta(minutes=1)
_KEPT = timedelta(days=90)  # for which ended tokens are still listed
_LARGEST = 16 << 20  # bytes of a file that is read


class Scope(StrEnum):
    """What a caller may do. Each scope includes those above it."""

    READ = "read"  # see trackers, streams, containers
    RUN = "run"  # start and stop trackers that are installed on the server
    LOAD = "load"  # load objects into the kernel that the caller brings
    ADMIN = "admin"  # all else: the server's own settings

    @property
    def included(self) -> frozenset[Scope]:
        """This scope and those that it includes."""
        every = list(Scope)
        return frozenset(every[: every.index(self) + 1])


def scopes_of(names: Iterable[str]) -> frozenset[Scope]:
    """Return scopes by their names, with those that they include. Raises :class:`ValueError`."""
    found: set[Scope] = set()
    for name in names:
        try:
            found |= Scope(name).included
        except ValueError:
            known = ", ".join(scope.value for scope in Scope)
            raise ValueError(f"there is no scope {name[:40]!r}: there are {known}") from None
    return frozenset(found)


def check_name(name: str) -> None:
    """Raise :class:`ValueError` for a name that no token may have."""
    if not _NAME.fullmatch(name):
        raise ValueError(
            f"{name[:40]!r} is no name for a token: it has 1 to 64 letters, digits, '.', '_', '@' and '-', "
            "and begins with a letter or a digit"
        )


class BadTokens(ValueError):
    """The file of tokens cannot be used; nobody is let in by a token."""


class Token(msgspec.Struct, frozen=True, kw_only=True):
    """A token as it is kept."""

    id: str
    name: str
    scopes: tuple[Scope, ...]
    secret_sha256: str
    created: datetime
    expires: datetime | None = None
    revoked: datetime | None = None

    @property
    def allowed(self) -> frozenset[Scope]:
        """Its scopes, with those that they include."""
        return scopes_of(scope.value for scope in self.scopes)

    def state(self, now: datetime | None = None) -> str:
        """Return ``valid``, ``expired`` or ``revoked``."""
        if self.revoked is not None:
            return "revoked"
        return "expired" if self.expires is not None and (now or _now()) >= self.expires else "valid"

    def ended(self) -> datetime | None:
        """Return when it was revoked or expires."""
        return self.revoked or self.expires


class _File(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    version: int = 1
    tokens: list[Token] = []


class _Read(NamedTuple):
    descriptor: int  # stays open: as long as it is, no other file gets this inode
    stamp: tuple[int, ...]
    by_id: dict[str, Token]


class Tokens:
    """The tokens of a state directory. Several threads and processes may use it: what one changes, the others see."""

    def __init__(self, directory: Path) -> None:
        self.path = directory / "tokens.json"
        self._uses_path = directory / "tokens-used.json"
        self._lock = directory / "tokens.lock"
        self._reading = RLock()  # a thread that reads the file again closes it for the others
        self._read: _Read | None = None
        self._uses: dict[str, datetime] = {}  # those that this process noted

    def close(self) -> None:
        """Close the file."""
        with self._reading:
            if self._read is not None:
                os.close(self._read.descriptor)
                self._read = None

    # Asking

    def all(self) -> list[Token]:
        """Return all tokens, the oldest first. Raises :class:`BadTokens`."""
        return sorted(self._current().values(), key=lambda token: token.created)

    def find(self, text: str) -> Token | None:
        """Return the token whose secret ``text`` has, also if it has ended; None if there is none."""
        form = _FORM.fullmatch(text)
        token = self._current().get(form[1]) if form else None
        if form is None or token is None or not hmac.compare_digest(_hash(form[2]), token.secret_sha256):
            return None
        return token

    def verify(self, text: str, now: datetime | None = None) -> Token | None:
        """Return the token whose secret ``text`` has, if it may be used now; note that it was used."""
        now = now or _now()
        token = self.find(text)
        if token is None or token.state(now) != "valid":
            return None
        self._note_use(token.id, now)
        return token

    def last_used(self) -> dict[str, datetime]:
        """Return when each token was used last, to the minute."""
        try:
            with open(os.open(self._uses_path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC), "rb") as file:
                return msgspec.json.decode(file.read(_LARGEST), type=dict[str, datetime])
        except (OSError, ValueError):  # not kept with care: see _note_use()
            return {}

    # Changing

    def create(self, name: str, scopes: Iterable[str], lifetime: timedelta | None) -> tuple[Token, str]:
        """Make a token; return it, and its text, which is kept nowhere. Raises :class:`ValueError`."""
        check_name(name)
        wanted = {Scope(name) for name in scopes if scopes_of([name])}
        if not wanted:
            raise ValueError("a token needs a scope")
        now = _now()
        secret = secrets.token_urlsafe(_SECRET_BYTES)
        private_file.make_directory(self.path.parent)
        with private_file.locked(self._lock):
            kept = {t.id: t for t in self.all() if (ended := t.ended()) is None or ended > now - _KEPT}
            while (number := secrets.token_hex(_ID_BYTES)) in kept:
                pass
            token = Token(
                id=number,
                name=name,
                scopes=tuple(scope for scope in Scope if scope in wanted),
                secret_sha256=_hash(secret),
                created=now,
                expires=None if lifetime is None else now + lifetime,
            )
            self._write([*kept.values(), token])
        return token, f"{PREFIX}_{number}_{secret}"

    def revoke(self, number: str) -> Token:
        """End a token by its id; return it. Raises :class:`LookupError` if there is none."""
        if not self.path.exists():
            raise LookupError(number)
        with private_file.locked(self._lock):
            tokens = self._current()
            token = tokens.get(number)
            if token is None:
                raise LookupError(number)
            if token.revoked is None:
                token = msgspec.structs.replace(token, revoked=_now())
                self._write([*(tokens | {number: token}).values()])
        return token

    def _write(self, tokens: list[Token]) -> None:
        content = msgspec.json.format(msgspec.json.encode(_File(tokens=tokens)), indent=2)
        private_file.replace(self.path, content + b"\n")
        private_file.sync_directory(self.path.parent)

    # Reading

    def _current(self) -> dict[str, Token]:
        with self._reading:
            return self._as_it_is()

    def _as_it_is(self) -> dict[str, Token]:
        """Return the tokens by id; the file is read again when it has changed."""
        try:
            stamp = _stamp(os.stat(self.path, follow_symlinks=False))
            if self._read is not None and self._read.stamp == stamp:
                return self._read.by_id
            opened = private_file.open_trusted(self.path)
        except FileNotFoundError:
            self.close()
            return {}
        except OSError as error:
            raise BadTokens(f"{self.path}: {error.strerror}") from None
        try:
            stamp = _stamp(os.fstat(opened))
            by_id = {token.id: token for token in self._decoded(opened)}
        except BaseException:
            os.close(opened)
            raise
        self.close()
        self._read = _Read(opened, stamp, by_id)
        return by_id

    def _decoded(self, opened: int) -> list[Token]:
        with open(opened, "rb", closefd=False) as file:
            content = file.read(_LARGEST)
        try:
            decoded = msgspec.json.decode(content, type=_File)
        except ValueError as error:
            raise BadTokens(f"{self.path}: not a file of tokens: {error}") from None
        if decoded.version != 1:
            raise BadTokens(f"{self.path}: of version {decoded.version}, which this eunomia does not know")
        for token in decoded.tokens:
            if token.created.tzinfo is None or (token.expires is not None and token.expires.tzinfo is None):
                raise BadTokens(f"{self.path}: not a file of tokens: a time of {token.id} has no time zone")
        return decoded.tokens

    def _note_use(self, number: str, now: datetime) -> None:
        """Keep the time, if the last one is a minute old.

        In a file of its own, and without waiting for the disk: to lose it costs little, and a request should not
        wait, nor change the file that says who may do what.
        """
        with self._reading:
            before = self._uses.get(number)
            if before is not None and abs(now - before) < _NOTED_EVERY:
                return
            self._uses[number] = now
        known = self._current()
        try:
            with private_file.locked(self._lock):
                uses = {n: at for n, at in self.last_used().items() if n in known} | {number: now}
                private_file.replace(self._uses_path, msgspec.json.encode(uses), sync=False)
        except OSError:  # a full disk shuts nobody out
            return


def _stamp(stat: os.stat_result) -> tuple[int, ...]:
    return stat.st_dev, stat.st_ino, stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns


def _hash(secret: str) -> str:
    return hashlib.sha256(secret.encode()).hexdigest()


def _now() -> datetime:
    return datetime.now(UTC).replace(microsecond=0)
