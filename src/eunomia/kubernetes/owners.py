# SPDX-License-Identifier: BSD-2-Clause
"""Owners of pods' owners: the Deployment of a ReplicaSet, the CronJob of a Job; each is asked for once by name.

Watching all ReplicaSets and Jobs would cost the cluster too much for what one node needs.

A pod's owner reference is untrusted: an answer belongs to one namespace, kind, name and uid, and the object that has
the name now must have the uid as well.
"""

from __future__ import annotations

import random
import time
from collections import OrderedDict, deque
from collections.abc import Callable
from threading import Condition

from eunomia.kubernetes import objects
from eunomia.kubernetes.access import Api, Refused, TooLong, Unreachable
from eunomia.kubernetes.follower import PAUSE_LIMIT
from eunomia.kubernetes.objects import Owner
from eunomia.typing import NamedTuple

# Owners of pods that have owners themselves: group and kind -> path.
_BETWEEN = {
    ("apps", "ReplicaSet"): "/apis/apps/v1/namespaces/{}/replicasets/{}",
    ("batch", "Job"): "/apis/batch/v1/namespaces/{}/jobs/{}",
}
KEPT = 4096  # answers that are remembered, and open questions
TRIES = 6  # failures in a row after which the nearest owners are shown, until the server recovers
FORBIDDEN = 600.0  # seconds for which a forbidden kind is not asked for
_SECONDS = 10.0  # without data after which a question has failed


class _Question(NamedTuple):
    namespace: str
    direct: Owner


class Owners:
    """Answers from memory, and asks for the rest in the thread that calls :meth:`run`."""

    def __init__(
        self,
        api: Api,
        learned: Callable[[str], None],
        say: Callable[[str], None],
        pause: float = 1.0,
        pause_limit: float = PAUSE_LIMIT,
    ) -> None:
        """``learned`` gets the uid of a pod's direct owner when there is a new answer for it.

        ``pause`` is the first one after a failure, and ``pause_limit`` the longest, in seconds.
        """
        self._api = api
        self._learned = learned
        self._say = say
        self._pause = pause
        self._pause_limit = pause_limit
        self._known: OrderedDict[_Question, Owner] = OrderedDict()
        self._asked: dict[_Question, int] = {}  # -> how often it has failed
        self._questions: deque[_Question] = deque()
        self._failures = 0  # in a row, of any questions
        self._rests_until = 0.0
        self._forbidden: dict[str, float] = {}  # kind -> until when
        self._changed = Condition()
        self._stopping = False

    def of(self, namespace: str, direct: Owner) -> Owner | None:
        """Return the owner to show for a direct one; ``None`` until there is an answer. Never blocks."""
        if (direct.group, direct.kind) not in _BETWEEN or not direct.uid or _unsafe(namespace, direct.name):
            return direct
        question = _Question(namespace, direct)
        with self._changed:
            known = self._known.get(question)
            if known is not None:
                self._known.move_to_end(question)
                return known
            if self._forbidden.get(direct.kind, 0.0) > time.monotonic():
                return direct
            if question not in self._asked:
                if len(self._asked) >= KEPT:
                    return direct
                self._asked[question] = 0
                self._questions.append(question)
                self._changed.notify()
            return direct if self._failures >= TRIES else None

    @property
    def is_asking(self) -> bool:
        """Whether there are questions without an answer."""
        return bool(self._asked)

    def stop(self) -> None:
        """Let :meth:`run` end, from any thread."""
        with self._changed:
            self._stopping = True
            self._changed.notify()

    def run(self) -> None:
        """Ask open questions until stopped."""
        while (question := self._next()) is not None:
            try:
                found = self._get(question)
            except (Refused, Unreachable, TooLong, objects.Malformed) as error:
                self._failed(error, question)
            else:
                self._failures = 0
                self._remember(question, found)

    def _next(self) -> _Question | None:
        with self._changed:
            while not self._stopping:
                rest = self._rests_until - time.monotonic()
                if self._questions and rest <= 0:
                    return self._questions.popleft()
                self._changed.wait(rest if self._questions else None)
        return None

    def _get(self, question: _Question) -> Owner:
        namespace, direct = question
        path = _BETWEEN[direct.group, direct.kind].format(namespace, direct.name)
        try:
            answer = self._api.get(path, {"resourceVersion": "0"}, _SECONDS)
        except Refused as error:
            if error.status != 404:
                raise
            answer = self._api.get(path, {}, _SECONDS)  # the server's cache may be behind
        try:
            uid, found = objects.owner(answer.read())
        finally:
            answer.close()
        return found if found.kind and uid == direct.uid else direct

    def _failed(self, error: Exception, question: _Question) -> None:
        status = error.status if isinstance(error, Refused) else 0
        if isinstance(error, Unreachable) or status in {401, 429} or status >= 500:
            self._ask_again(error, question)
        elif status == 403:
            self._forbid(error, question.direct.kind)
        else:
            self._remember(question, question.direct)  # 404: deleted meanwhile

    def _ask_again(self, error: Exception, question: _Question) -> None:
        """Pause all questions, because the server has failed; only 500 may be due to this question."""
        with self._changed:
            self._asked[question] += 1
            hopeless = isinstance(error, Refused) and error.status == 500 and self._asked[question] >= TRIES
            if not hopeless:
                self._questions.append(question)
            pause = min(self._pause_limit, self._pause * 2 ** min(self._failures, 16))
            after = error.after if isinstance(error, Refused) else 0.0
            self._rests_until = time.monotonic() + max(after, pause * random.uniform(0.5, 1.0))  # noqa: S311
            self._failures += 1
            nearest = tuple(self._asked) if self._failures == TRIES else ()
        if hopeless:
            self._remember(question, question.direct)
        for one in nearest:
            self._learned(one.direct.uid)

    def _forbid(self, error: Exception, kind: str) -> None:
        """Show the nearest owners for a kind that may not be read."""
        with self._changed:
            fresh = kind not in self._forbidden
            self._forbidden[kind] = time.monotonic() + FORBIDDEN
            left = [one for one in self._asked if one.direct.kind == kind]
            for one in left:
                del self._asked[one]
            self._questions = deque(one for one in self._questions if one.direct.kind != kind)
        if fresh:
            self._say(
                f"the Kubernetes API does not let us read {kind}s: pods show these as their owners, "
                f"not the owners of these ({error})"
            )
        for one in left:
            self._learned(one.direct.uid)

    def _remember(self, question: _Question, found: Owner) -> None:
        with self._changed:
            self._asked.pop(question, None)
            self._known[question] = found
            if len(self._known) > KEPT:
                self._known.popitem(last=False)
        self._learned(question.direct.uid)


def _unsafe(*names: str) -> bool:
    """Whether names are unsafe in a path; the API's own are always safe."""
    return any(not name or not name.replace("-", "").replace(".", "").isalnum() or ".." in name for name in names)
