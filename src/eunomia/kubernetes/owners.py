# SPDX-License-Identifier: BSD-2-Clause
"""Who made a pod's maker: the Deployment of a ReplicaSet, the CronJob of a Job; asked by name, once each.

Watching all ReplicaSets and Jobs would cost the cluster for what one node needs of them.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable
from heapq import heappop, heappush
from threading import Condition

from eunomia.kubernetes import objects
from eunomia.kubernetes.access import Api, Refused, Unreachable
from eunomia.kubernetes.objects import Owner

# What makes pods for others: group and kind -> the path to one.
_BETWEEN = {
    ("apps", "ReplicaSet"): "/apis/apps/v1/namespaces/{}/replicasets/{}",
    ("batch", "Job"): "/apis/batch/v1/namespaces/{}/jobs/{}",
}
KEPT = 4096  # answers that are remembered, and questions that wait
TRIES = 6  # while the server cannot be reached; the pause doubles from one to the next
FORBIDDEN = 600.0  # seconds for which a kind that may not be read is not asked for
_SECONDS = 10.0  # of silence after which a question has failed


class Owners:
    """Answers from what it knows, and learns the rest in the thread that calls :meth:`run`."""

    def __init__(
        self, api: Api, learned: Callable[[str], None], say: Callable[[str], None], pause: float = 1.0
    ) -> None:
        """``learned`` gets the uid of a pod's direct owner when there is more to say of it than before."""
        self._api = api
        self._learned = learned
        self._say = say
        self._pause = pause
        self._known: OrderedDict[str, Owner] = OrderedDict()
        self._asked: set[str] = set()
        self._questions: list[tuple[float, int, int, str, Owner]] = []  # a heap: when, order, tries, namespace
        self._order = 0
        self._forbidden: dict[str, float] = {}  # kind -> until when
        self._changed = Condition()
        self._stopping = False

    def of(self, namespace: str, direct: Owner) -> Owner | None:
        """Return the owner to show for a direct one; ``None`` while it is asked for. Waits for nothing."""
        if (direct.group, direct.kind) not in _BETWEEN or not direct.uid or _unsafe(namespace, direct.name):
            return direct
        with self._changed:
            known = self._known.get(direct.uid)
            if known is not None:
                self._known.move_to_end(direct.uid)
                return known
            if self._forbidden.get(direct.kind, 0.0) > time.monotonic():
                return direct
            if direct.uid not in self._asked:
                if len(self._asked) >= KEPT:
                    return direct
                self._asked.add(direct.uid)
                self._ask(0.0, 0, namespace, direct)
        return None

    @property
    def waits(self) -> bool:
        """Whether there are questions without an answer."""
        return bool(self._asked)

    def stop(self) -> None:
        """Let :meth:`run` end, from any thread."""
        with self._changed:
            self._stopping = True
            self._changed.notify()

    def run(self) -> None:
        """Ask for what is wanted until stopped."""
        while (question := self._next()) is not None:
            tries, namespace, direct = question
            try:
                found = self._get(namespace, direct)
            except (Refused, Unreachable, objects.Malformed) as error:
                self._failed(error, tries, namespace, direct)
            else:
                self._remember(direct, found if found.kind else direct)

    def _ask(self, pause: float, tries: int, namespace: str, direct: Owner) -> None:
        self._order += 1
        heappush(self._questions, (time.monotonic() + pause, self._order, tries, namespace, direct))
        self._changed.notify()

    def _next(self) -> tuple[int, str, Owner] | None:
        with self._changed:
            while not self._stopping:
                now = time.monotonic()
                if self._questions and self._questions[0][0] <= now:
                    return heappop(self._questions)[2:]
                self._changed.wait(self._questions[0][0] - now if self._questions else None)
        return None

    def _get(self, namespace: str, direct: Owner) -> Owner:
        path = _BETWEEN[direct.group, direct.kind].format(namespace, direct.name)
        try:
            answer = self._api.get(path, {"resourceVersion": "0"}, _SECONDS)
        except Refused as error:
            if error.status != 404:
                raise
            answer = self._api.get(path, {}, _SECONDS)  # the server's cache may be behind
        try:
            return objects.owner(answer.read())
        finally:
            answer.close()

    def _failed(self, error: Exception, tries: int, namespace: str, direct: Owner) -> None:
        status = error.status if isinstance(error, Refused) else 0
        passing = isinstance(error, Unreachable) or status in {401, 429} or status >= 500
        if passing and tries < TRIES:
            with self._changed:
                self._ask(self._pause * 2**tries, tries + 1, namespace, direct)
            return
        if status != 403:
            self._remember(direct, direct)  # 404: deleted meanwhile, so nobody can tell any more
            return
        with self._changed:
            fresh = direct.kind not in self._forbidden
            self._forbidden[direct.kind] = time.monotonic() + FORBIDDEN
            same = [q[4] for q in self._questions if q[4].kind == direct.kind]
            self._questions = [q for q in self._questions if q[4].kind != direct.kind]
            self._questions.sort()
            self._asked -= {one.uid for one in (direct, *same)}
        if fresh:
            self._say(
                f"the Kubernetes API does not let us read {direct.kind}s: pods show these as their owners, "
                f"and not what owns them ({error})"
            )
        for one in (direct, *same):
            self._learned(one.uid)

    def _remember(self, direct: Owner, found: Owner) -> None:
        with self._changed:
            self._asked.discard(direct.uid)
            self._known[direct.uid] = found
            if len(self._known) > KEPT:
                self._known.popitem(last=False)
        self._learned(direct.uid)


def _unsafe(*names: str) -> bool:
    """Whether names cannot stand in a path as they are; the API's own always can."""
    return any(not name or not name.replace("-", "").replace(".", "").isalnum() or ".." in name for name in names)
