# SPDX-License-Identifier: BSD-2-Clause
"""Follower of one collection of the API: lists it once, then watches; no loss, no duplicates, no request storm.

It follows the API's documentation ("Efficient detection of changes"): a watch resumes at the last resourceVersion
that was seen; after 410 Gone the server has forgotten that, and a new list is compared with what is known.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator, Mapping
from threading import Event

import msgspec

from eunomia.kubernetes import objects
from eunomia.kubernetes.access import Answer, Api, Refused, TooLong, Unreachable
from eunomia.typing import Generic, Protocol, TypeVar

PAGE = 500  # objects of one page of a list, fewer if these are too long
LISTED = 100_000  # objects of one list that are read
WATCH = 300  # seconds after which the server ends a watch, up to twice that
PATIENCE = 30.0  # seconds without data after which a request has failed
LINE_LIMIT = 8 << 20  # bytes; etcd takes objects of 1.5 MB
PAUSE = 0.25  # seconds before the first retry, doubled each time
PAUSE_LIMIT = 45.0
LASTED = 10.0  # seconds after which a watch counts as successful
_SHRINK = 8  # how much smaller pages become, at most twice: then even the longest objects fit
AGAIN = 600.0  # seconds after which a warning may be repeated


class _Versioned(Protocol):
    @property
    def uid(self) -> str: ...
    @property
    def version(self) -> str: ...
    @property
    def is_finished(self) -> bool: ...


_T = TypeVar("_T", bound=_Versioned)


class _Gone(Exception):
    """The server has forgotten the requested version."""


class Follower(Generic[_T]):
    """Follows one collection in the calling thread: :meth:`run` until :meth:`stop`.

    ``put`` gets each new or changed object, ``drop`` the uid of each removed one, ``listed`` their number after each
    list. ``say`` gets one sentence at the first failure, with ``what`` in it.
    """

    def __init__(
        self,
        api: Api,
        what: str,
        path: str,
        query: Mapping[str, str],
        read: Callable[[msgspec.Raw], _T],
        *,
        put: Callable[[_T], None],
        drop: Callable[[str], None],
        say: Callable[[str], None],
        listed: Callable[[int], None] = lambda _: None,
        pause: float = PAUSE,
        pause_limit: float = PAUSE_LIMIT,
        limit: int = 20_000,
    ) -> None:
        """``pause`` is the first one and ``pause_limit`` the longest, in seconds.

        ``limit`` is the number of objects kept; finished ones make room for others.
        """
        self._api = api
        self._what = what
        self._path = path
        self._query = dict(query)
        self._read = _strict(read)
        self._put = put
        self._drop = drop
        self._say = say
        self._listed = listed
        self._pause = pause
        self._pause_limit = pause_limit
        self._limit = limit
        self._page = PAGE
        self.tried = Event()  # the first list was read, or failed
        self._stopping = Event()
        self._answer: Answer | None = None
        self._version = ""  # where the next watch begins; empty: list first
        self._least = "0"  # the least version of a list: 0 for any, empty for the newest
        self._known: dict[str, str] = {}  # uid -> version
        self._finished: dict[str, None] = {}  # uids of known objects that have finished, oldest first
        self._failures = 0
        self._gone = False  # 410 was answered since the last successful watch
        self._began = 0.0  # when the last watch began, or 0
        self._said: dict[str, float] = {}

    def stop(self) -> None:
        """Let :meth:`run` end, from any thread."""
        self._stopping.set()
        answer = self._answer
        if answer is not None:
            answer.close()

    def run(self) -> None:
        """Follow until stopped."""
        while not self._stopping.is_set():
            self._began = after = 0.0
            try:
                if not self._version:
                    try:
                        self._list()
                    finally:
                        self.tried.set()
                self._watch()
            except _Gone:
                self._relist()
                if not self._gone:  # the server answers again, unless 410 is its only answer
                    self._failures = 0
                self._gone = True
            except TooLong as error:
                self._list_by_less(error)
            except objects.Malformed as error:
                self._relist()  # a watch would get the same object again
                self._warn(error)
            except (Refused, Unreachable) as error:
                after = error.after if isinstance(error, Refused) else 0.0
                self._warn(error)
            now = time.monotonic()
            lasted = self._began and now - self._began >= LASTED
            if lasted:
                self._failures = 0
                self._gone = False
                self._said = {kind: at for kind, at in self._said.items() if now - at < AGAIN}
            self._rest(after)
            self._failures = 0 if lasted else self._failures + 1

    def _relist(self) -> None:
        """List next: not older than what was seen, or the newest if it was the list that failed."""
        self._least, self._version = self._version, ""

    def _list_by_less(self, error: TooLong) -> None:
        """List with smaller pages next: a user's long objects must not hide all others."""
        if self._least == "0":
            self._least = ""  # from its cache the server returns everything in one page
        elif self._page >= _SHRINK:
            self._page //= _SHRINK
        else:
            self._warn(error)

    def _rest(self, after: float) -> None:
        pause = min(self._pause_limit, self._pause * 2 ** min(self._failures, 16))
        # random, so that nodes that lost a server together do not come back together
        self._stopping.wait(max(after, pause * random.uniform(0.5, 1.0)))  # noqa: S311

    def _warn(self, error: Exception) -> None:
        status = error.status if isinstance(error, Refused) else 0
        passing = isinstance(error, Unreachable) or status == 429 or status >= 500
        kind = f"{type(error).__name__} {status}"
        if self._stopping.is_set() or kind in self._said or (passing and not self._failures):
            return
        self._said[kind] = time.monotonic()
        if status == 403:
            self._say(f"the Kubernetes API does not let us read {self._what}, which will be missing: {error}")
        else:
            missing = f"changes of {self._what}" if self._known else self._what
            self._say(f"the Kubernetes API {_symptom(error)}: {missing} will be missing until it recovers")

    # Lists

    def _list(self) -> None:
        seen: set[str] = set()
        query = self._query | {"limit": str(self._page)}
        if self._least:
            query["resourceVersion"] = self._least
            if self._least != "0":
                query["resourceVersionMatch"] = "NotOlderThan"
        rest = version = ""
        for _ in range(LISTED // self._page):
            if rest:
                query = self._query | {"limit": str(self._page), "continue": rest}
            page = objects.page(self._get_page(query))
            version = page.version
            for item in page.items:
                self._take(item, seen)
            rest = page.rest
            if not rest:
                break
        if not version:
            raise objects.Malformed("a list without a resourceVersion")
        if not rest:
            for uid in [uid for uid in self._known if uid not in seen]:
                self._remove(uid)
        self._version, self._least = version, version
        self._listed(len(self._known))

    def _get_page(self, query: Mapping[str, str]) -> bytes | bytearray:
        try:
            answer = self._api.get(self._path, query, PATIENCE)
        except Refused as error:
            # 410: that version, or the list's next page, is forgotten. 504: the server has not reached that version.
            # 400: an old server without resourceVersionMatch.
            if error.status == 410 or (error.status in {400, 504} and self._least not in {"", "0"}):
                raise _Gone from None
            raise
        try:
            return answer.read()
        finally:
            answer.close()

    def _take(self, item: msgspec.Raw, seen: set[str] | None = None) -> str:
        """Pass on an object unless this version is known; return the version."""
        try:
            found = self._read(item)
        except objects.Malformed:
            return "" if seen is not None else objects.version(item)
        if seen is not None:
            seen.add(found.uid)
        known = self._known.get(found.uid)
        if known == found.version:
            return found.version
        if known is None and len(self._known) >= self._limit and not self._make_room(found):
            return found.version
        self._known[found.uid] = found.version
        if found.is_finished:
            self._finished[found.uid] = None
        self._put(found)
        return found.version

    def _make_room(self, found: _T) -> bool:
        """Drop a finished object to make room; return whether there was one."""
        if "many" not in self._said:
            self._said["many"] = time.monotonic()
            self._say(f"Kubernetes has more than {self._limit} {self._what}: the others will be missing")
        if found.is_finished or not self._finished:
            return False
        self._remove(next(iter(self._finished)))
        return True

    def _remove(self, uid: str) -> None:
        self._finished.pop(uid, None)
        if self._known.pop(uid, None) is not None:
            self._drop(uid)

    # Watches

    def _watch(self) -> None:
        seconds = random.randint(WATCH, 2 * WATCH)  # noqa: S311
        query = self._query | {
            "watch": "1",
            "allowWatchBookmarks": "true",
            "resourceVersion": self._version,
            "timeoutSeconds": str(seconds),
        }
        try:
            answer = self._api.get(self._path, query, PATIENCE, seconds + PATIENCE)
        except Refused as error:
            if error.status == 410:
                raise _Gone from None
            raise
        self._answer = answer
        self._began = time.monotonic()
        try:
            if self._stopping.is_set():
                return
            for line in _lines(answer.chunks()):
                self._event(line)
        finally:
            self._answer = None
            answer.close()

    def _event(self, line: bytes) -> None:
        event = objects.event(line)
        if event.type == "ERROR":
            status, message = objects.code(event.object)
            if status == 410:
                raise _Gone
            raise Refused(status, message)
        if event.type == "BOOKMARK":
            version = objects.version(event.object)
        elif event.type == "DELETED":
            found = self._read(event.object)
            version = found.version
            self._remove(found.uid)
        elif event.type in {"ADDED", "MODIFIED"}:
            version = self._take(event.object)
        else:
            return
        if version:
            self._version = version


def _strict(read: Callable[[msgspec.Raw], _T]) -> Callable[[msgspec.Raw], _T]:
    """Return a reader that raises only :class:`objects.Malformed`, so that other objects are read on."""

    def strict(item: msgspec.Raw) -> _T:
        try:
            return read(item)
        except objects.Malformed:
            raise
        except Exception as error:
            raise objects.Malformed(f"{type(error).__name__}: {error}") from error

    return strict


def _lines(chunks: Iterator[bytes]) -> Iterator[bytes]:
    """Yield complete lines; an incomplete last one is dropped, because its event comes again after the resume."""
    rest = bytearray()
    for chunk in chunks:
        rest += chunk
        if b"\n" in chunk:
            *whole, last = bytes(rest).split(b"\n")
            rest = bytearray(last)
            yield from (line for line in whole if line.strip())
        if len(rest) > LINE_LIMIT:
            raise objects.Malformed(f"an event of more than {LINE_LIMIT} bytes")


def _symptom(error: Exception) -> str:
    if isinstance(error, Refused):
        return f"answers {error.status}" + (f" ({error})" if str(error) else "")
    if isinstance(error, Unreachable):
        return f"cannot be reached ({error})"
    return f"sent an answer that cannot be read ({error})"
