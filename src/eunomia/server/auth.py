# SPDX-License-Identifier: BSD-2-Clause
"""ASGI middleware that says who a caller is, and refuses those that nobody has let in.

A request with a bearer token has the token's scopes, on any socket. Without one, a process at the other end of the
Unix socket is known by its user: root and the server's own user may do everything, others what they were allowed.
"""

from __future__ import annotations

import asyncio
import math
import os
import re
from collections.abc import Collection, Iterable, Mapping
from typing import Any, NamedTuple

from eunomia.faults import Faults
from eunomia.server.asgi import Application, Connection, Headers, Message, Receive, Send, header, refuse
from eunomia.server.peer import Peer, origin
from eunomia.server.problems import ApiError
from eunomia.server.rate import Buckets
from eunomia.server.tokens import BadTokens, Scope, Tokens, scopes_of

_BEARER = re.compile(r"bearer +(\S+) *", re.IGNORECASE)
_NOBODY = 65534  # what the kernel says for every user who has no id in the server's user namespace
_FAILURES = 1.0  # refused per second and origin, for longer than ...
_FAILURES_AT_ONCE = 20.0  # ... so many


class Caller(NamedTuple):
    """Who makes a request: ``id`` is ``token:ID`` or ``uid:N``, ``who`` what the audit log says."""

    id: str
    scopes: frozenset[Scope]
    who: Mapping[str, Any]


class _Refused(Exception):
    def __init__(self, status: int, detail: str, challenge: str = "") -> None:
        super().__init__(detail)
        self.error = ApiError(status, detail)
        self.headers: Headers = [(b"www-authenticate", challenge.encode())] if challenge else []


def caller_of(connection: Mapping[str, Any]) -> Caller | None:
    """Return who makes a request; None where everybody is let in."""
    caller = connection.get("state", {}).get("caller")
    return caller if isinstance(caller, Caller) else None


def require(connection: Mapping[str, Any], scope: str) -> None:
    """Raise :class:`ApiError` unless a request's caller has a scope; every request has the scope ``""``."""
    if not scope:
        return
    caller = caller_of(connection)
    if caller is None:
        raise ApiError(401, "this needs a token, or a user that the server lets in")
    if scope not in caller.scopes:
        has = ", ".join(s for s in Scope if s in caller.scopes) or "none"
        raise ApiError(403, f"this needs the scope {scope}; {_called(caller)} has {has}")


def _token_of(caller: Caller | None) -> str:
    """Return the id of a caller's token; "" for others."""
    return str(caller.who.get("token", "")) if caller is not None else ""


def _called(caller: Caller) -> str:
    token = _token_of(caller)
    return f"token {token}" if token else f"user {caller.who['uid']}"


class Authentication:
    """Puts the caller into ``scope["state"]["caller"]``.

    ``uids`` are the scopes of other users of the Unix socket; ``open_paths`` are answered to everyone who can connect.
    """

    look_every = 5.0  # seconds between looks whether the token of a stream is still valid

    def __init__(
        self,
        app: Application,
        tokens: Tokens | None,
        *,
        uids: Mapping[int, Iterable[str]] | None = None,
        open_paths: Collection[str] = (),
        faults: Faults | None = None,
    ) -> None:
        """Raises :class:`ValueError` if ``uids`` has a wrong scope, or the user that stands for unknown ones."""
        if _NOBODY in (uids or {}):
            raise ValueError(f"user {_NOBODY} cannot be let in: the kernel gives this number to all it cannot name")
        self._app = app
        self._tokens = tokens
        self._users = {uid: scopes_of(scopes) for uid, scopes in (uids or {}).items()}
        self._users |= dict.fromkeys((0, os.geteuid()), frozenset(Scope))
        self._open = frozenset(open_paths)
        self._faults = faults or Faults()
        self._failures = Buckets(_FAILURES, _FAILURES_AT_ONCE)

    async def __call__(self, connection: Connection, receive: Receive, send: Send) -> None:
        """Pass a request on, or refuse it."""
        if connection["type"] not in {"http", "websocket"}:
            await self._app(connection, receive, send)
            return
        state = connection.setdefault("state", {})
        state["caller"] = None
        try:
            if connection["path"] not in self._open:
                state["caller"] = self._caller(connection)
        except _Refused as refused:
            error, headers = refused.error, refused.headers
            wait = self._failures.take(origin(connection))
            if wait:
                error = ApiError(429, f"too many requests were refused: try again in {wait:.1f} s")
                headers = [(b"retry-after", str(math.ceil(wait)).encode())]
            await refuse(connection, receive, send, error, headers)
            return
        token = _token_of(state["caller"])
        await self._app(connection, self._while_valid(token, connection, receive, send) if token else receive, send)

    def _while_valid(self, number: str, connection: Connection, receive: Receive, send: Send) -> Receive:
        """Return what says that the client is gone once its token has ended: streams go on for long."""

        async def receive_while_valid() -> Message:
            waiting = asyncio.ensure_future(receive())
            try:
                while not (await asyncio.wait({waiting}, timeout=self.look_every))[0]:
                    if not self._is_valid(number):
                        if connection["type"] == "http":
                            return {"type": "http.disconnect"}
                        await send({"type": "websocket.close", "code": 1008, "reason": "the token has ended"})
                        return {"type": "websocket.disconnect", "code": 1008}
                return await waiting
            finally:
                waiting.cancel()

        return receive_while_valid

    def _is_valid(self, number: str) -> bool:
        try:
            return self._tokens is not None and any(t.id == number and t.state() == "valid" for t in self._tokens.all())
        except BadTokens:
            return False

    def _caller(self, connection: Connection) -> Caller:
        told = header(connection, b"authorization")
        peer: Peer | None = connection["state"].get("peer")
        if told:
            return self._by_token(told, connection, peer)
        if peer is None:
            raise _Refused(401, "this needs a token: Authorization: Bearer TOKEN", 'Bearer realm="eunomia"')
        scopes = self._users.get(peer.uid)
        if scopes is None:
            raise _Refused(403, f"user {peer.uid} is not let in: send a token, or have the server let the user in")
        return Caller(f"uid:{peer.uid}", scopes, {"kind": "peer", "uid": peer.uid, "pid": peer.pid})

    def _by_token(self, told: list[bytes], connection: Connection, peer: Peer | None) -> Caller:
        form = _BEARER.fullmatch(told[0].decode("latin-1"))
        if len(told) > 1 or form is None:
            raise _refused_token("the header is not of the form Authorization: Bearer TOKEN", "invalid_request")
        try:
            token = self._tokens.verify(form[1]) if self._tokens is not None else None
            if token is None:
                known = self._tokens.find(form[1]) if self._tokens is not None else None
                # Whoever has its secret may know how it ended.
                raise _refused_token(f"the token is {known.state()}" if known else "the token is not known")
        except BadTokens as error:
            self._faults.note("the file of tokens", error, "no token is let in")
            raise _Refused(503, "the server cannot read its tokens: its log says why") from None
        who: dict[str, Any] = {"kind": "token", "token": token.id, "name": token.name}
        if peer is not None:
            who |= {"uid": peer.uid, "pid": peer.pid}
        elif connection.get("client"):
            who["address"] = connection["client"][0]
        return Caller(f"token:{token.id}", token.allowed, who)


def _refused_token(why: str, kind: str = "invalid_token") -> _Refused:
    return _Refused(401, why, f'Bearer realm="eunomia", error="{kind}", error_description="{why}"')
