# SPDX-License-Identifier: BSD-2-Clause
"""The server's own state in Prometheus' text format, and the count of its answers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping

from eunomia.server.asgi import Application, Connection, Message, Receive, Send
from eunomia.server.models import Ledger, Tracker

TYPE = "text/plain; version=0.0.4; charset=utf-8"

_Value = tuple[Mapping[str, str], int]


class Answers:
    """Counts answers by status. It belongs around everything that answers."""

    def __init__(self) -> None:
        self.by_status: Counter[int] = Counter()

    def around(self, app: Application) -> Application:
        """Return an application whose answers are counted."""

        async def counted(connection: Connection, receive: Receive, send: Send) -> None:
            async def passed(message: Message) -> None:
                if message["type"] in {"http.response.start", "websocket.http.response.start"}:
                    self.by_status[message["status"]] += 1
                elif message["type"] == "websocket.accept":
                    self.by_status[101] += 1
                await send(message)

            await app(connection, receive, passed)

        return counted


def text(trackers: Iterable[Tracker], ledger: Ledger, answers: Mapping[int, int]) -> str:
    """Return the metrics as text."""
    trackers = list(trackers)
    states = Counter({"running": 0})
    states.update(t.state for t in trackers)
    emitted: Counter[str] = Counter()
    lost: Counter[str] = Counter()
    for source in ledger.sources:
        emitted[source.stream] += source.emitted
        lost[source.stream] += source.lost or 0
    return "".join(
        (
            _metric("trackers", "gauge", "Trackers, by state.", [({"state": s}, n) for s, n in states.items()]),
            _metric("readers", "gauge", "Readers of trackers' streams.", [({}, len(ledger.readers))]),
            _metric("rows_emitted_total", "counter", "Records that probes have written.", _by_stream(emitted)),
            _metric("rows_lost_total", "counter", "Records for which a buffer had no room.", _by_stream(lost)),
            _metric(
                "http_answers_total", "counter", "Answers of the API, by status.",
                [({"status": str(status)}, n) for status, n in sorted(answers.items())],
            ),
        )
    )  # fmt: skip


def _by_stream(counts: Mapping[str, int]) -> list[_Value]:
    found: list[_Value] = []
    for label, count in sorted(counts.items()):
        tracker, _, stream = label.partition("/")
        found.append(({"tracker": tracker, "stream": stream}, count))
    return found


def _metric(name: str, kind: str, says: str, values: Iterable[_Value]) -> str:
    lines = [f"# HELP eunomia_{name} {says}", f"# TYPE eunomia_{name} {kind}"]
    for labels, value in values:
        given = ",".join(f'{label}="{_escaped(text)}"' for label, text in labels.items())
        lines.append(f"eunomia_{name}{{{given}}} {value}" if given else f"eunomia_{name} {value}")
    return "\n".join(lines) + "\n"


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
