# SPDX-License-Identifier: BSD-2-Clause
"""The server's API: how soon a tracker runs, what stays of a thousand, swaps under load, two hundred slow readers.

sudo .venv/bin/python bench/run.py --only api
"""

from __future__ import annotations

import contextlib
import gc
import json
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent.parent))

from figures import Figure
from machine import BUILT, FLOOD, LOAD_CPU, NotMeasured, running, say
from swap import RATE, WIDE
from tests.engine.conftest import Opener
from tests.run.conftest import kernel_ids
from tests.server.conftest import Server

KINDS = ("process", "opensnoop", "syscall", "container")
_PATIENCE = 120.0
_WARM = 20  # cycles before the first count
_READERS = 200
_OPENS = 100_000


@contextlib.contextmanager
def served() -> Iterator[Server]:
    with tempfile.TemporaryDirectory(prefix="eunomia-bench-") as place:
        config = Path(place) / "config.toml"
        config.write_text("[server.limits]\nrequests = 60000\n")
        server = Server(Path(place), "--config", str(config))
        try:
            yield server
        finally:
            server.stop()


def resident(pid: int) -> int:
    """Return a process's resident memory, in KiB."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmRSS"))


def objects() -> dict[str, int]:
    """Return how many BPF programs, maps and links the kernel has, of all processes."""
    return {kind: _shown(kind) for kind in ("prog", "map", "link")}


def _shown(kind: str) -> int:
    try:
        said = subprocess.run(["bpftool", "-j", kind, "show"], capture_output=True, check=True).stdout
    except (OSError, subprocess.CalledProcessError) as error:
        raise NotMeasured(f"bpftool: {error}") from None
    return len(json.loads(said))


def state(server: Server) -> dict[str, int]:
    """Return what there is of a server."""
    pid = server.process.pid
    gc.collect()
    time.sleep(2)  # the kernel frees maps when it finds the time
    return {
        "bpf_objects": len(kernel_ids(pid)),
        "descriptors": min(len(os.listdir(f"/proc/{pid}/fd")) for _ in range(50)),
        "threads": len(os.listdir(f"/proc/{pid}/task")),
        "resident_kib": resident(pid),
        **{f"kernel_{kind}s": number for kind, number in objects().items()},
    }


def done(server: Server, method: str, path: str, body: Any = None) -> Any:
    answer = server.ask(method, path, body)
    assert answer.status in {200, 201}, answer
    return answer.body


def until(holds: Callable[[], Any]) -> None:
    deadline = time.monotonic() + _PATIENCE
    while not holds():
        if time.monotonic() > deadline:
            raise NotMeasured("it took too long")
        time.sleep(0.05)


def starts(times: int) -> list[float]:
    """Return how long a start takes until the answer, in ms, with a program that runs already."""
    took = []
    with served() as server:
        for _ in range(times + 1):
            began = time.perf_counter()
            done(server, "POST", "/v1/trackers", {"kind": "process"})
            took.append(1000 * (time.perf_counter() - began))
            done(server, "DELETE", "/v1/trackers/process")
    return took[1:]


def six() -> int:
    """Return the resident memory of a server with six trackers, one of which is read, in KiB."""
    with served() as server:
        for number in range(6):
            done(server, "POST", "/v1/trackers", {"kind": KINDS[number % len(KINDS)]})
        events = iter(server.events("/v1/trackers/process/events"))
        subprocess.run(["true"], check=True)
        for _ in range(4):
            next(events)
        return resident(server.process.pid)


def cycles(number: int) -> dict[str, Any]:
    """Start and stop trackers under load, in turns, beside one that lasts and is read."""
    opener = Opener()
    with served() as server:
        done(server, "POST", "/v1/trackers", {"kind": "process", "id": "lasting"})
        with opener.opening():
            before, began = {}, 0.0
            for cycle in range(_WARM + number):
                if cycle == _WARM:
                    before, began = state(server), time.monotonic()
                kind = KINDS[cycle % len(KINDS)]
                done(server, "POST", "/v1/trackers", {"kind": kind, "id": "one"})
                done(server, "DELETE", "/v1/trackers/one")
            took, after = time.monotonic() - began, state(server)
        lost = sum(s["lost"] or 0 for s in done(server, "GET", "/v1/ledger")["sources"])
    opener.end()
    return {"cycles": number, "seconds": took, "before": before, "after": after, "lost": lost}


def drained(events: Any) -> threading.Thread:
    """Read a stream to its end, in a thread."""
    thread = threading.Thread(target=lambda: [None for _ in events], daemon=True)
    thread.start()
    return thread


def swaps(number: int, path: Path) -> dict[str, Any]:
    """Replace an object under load, and count in the file that it writes."""
    if not WIDE.exists():
        raise NotMeasured("the objects are not built")
    argv = [str(BUILT / "getppid"), "-w", "-c", str(LOAD_CPU), "-r", str(RATE)]
    with served() as server, running(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as load:
        assert load.stdin is not None
        digests = [done(server, "POST", "/v1/objects", object_.read_bytes())["object"] for object_ in (FLOOD, WIDE)]
        request = {
            "object": digests[0], "id": "flood", "settings": {"target": load.pid}, "ring_size": 64 << 20,
            "outputs": [{"file": str(path), "format": "csv", "columns": ["sequence"]}],
        }  # fmt: skip
        done(server, "POST", "/v1/trackers", request)
        load.stdin.write(b"\n")
        load.stdin.flush()
        took = []
        for swap in range(number):
            began = time.perf_counter()
            done(server, "PUT", "/v1/trackers/flood/object", {"object": digests[(swap + 1) % 2]})
            took.append(1000 * (time.perf_counter() - began))
        load.terminate()
        out, _ = load.communicate(timeout=_PATIENCE)
        made = json.loads(out)
        done(server, "DELETE", "/v1/trackers/flood")
        ledger = done(server, "GET", "/v1/trackers/flood/ledger")
    refused = sum(s["lost"] or 0 for s in ledger["sources"])
    dropped = sum(sum(o["dropped"].values()) for o in ledger["outputs"])
    emitted = sum(s["emitted"] for s in ledger["sources"])
    delivered = sum(o["delivered"] for o in ledger["outputs"])
    return {
        "swaps": number, "calls": made["ops"], "rate": made["ops"] / made["wall_ns"] * 1e9, "took_ms": took,
        "emitted": emitted, "refused": refused, "dropped": dropped, "delivered": delivered,
        **_counted(path, made["ops"]),
    }  # fmt: skip


def _counted(path: Path, calls: int) -> dict[str, int]:
    """Return how many numbers are missing in a file, and how many are there twice."""
    import numpy as np

    times = np.zeros(calls + 1, np.uint8)
    with path.open() as file:
        for lines in iter(lambda: file.readlines(1 << 24), []):
            numbers = np.array([line for line in lines if line[0].isdigit()], dtype=np.int64)
            np.add.at(times, numbers, 1)
    return {"missing": int((times[1:] == 0).sum()), "doubled": int((times > 1).sum())}


def flooded(readers: int) -> dict[str, Any]:
    """Flood a stream that one reads as fast as it can, beside so many who do not read."""
    opener = Opener()
    stuck: list[socket.socket] = []
    with served() as server:
        done(server, "POST", "/v1/trackers", {"kind": "opensnoop", "filters": {"pids": [opener.pid]}})
        drained(server.events("/v1/trackers/opensnoop/events"))
        for _ in range(readers):
            one = socket.socket(socket.AF_UNIX)
            one.connect(str(server.socket))
            one.sendall(b"GET /v1/trackers/opensnoop/events HTTP/1.1\r\nHost: localhost\r\n\r\n")
            stuck.append(one)
        until(lambda: len(done(server, "GET", "/v1/ledger")["readers"]) == readers + 1)
        before, began = resident(server.process.pid), time.monotonic()
        for _ in range(_OPENS // 500):
            opener.opens(500)
        took = time.monotonic() - began

        def ledger() -> dict[str, Any]:
            return done(server, "GET", "/v1/trackers/opensnoop/ledger")  # type: ignore[no-any-return]

        until(lambda: sum(o["delivered"] for o in ledger()["outputs"]) + ledger()["sources"][0]["lost"] >= _OPENS)
        grown, told = resident(server.process.pid) - before, ledger()
        for one in stuck:
            one.close()
    opener.end()
    return {
        "readers": readers, "opens_per_second": _OPENS / took, "lost": told["sources"][0]["lost"],
        "grown_kib": grown, "accounts": told["readers"],
        "balanced": all(r["passed"] == r["filtered"] + r["delivered"] + r["lost"] for r in told["readers"]),
    }  # fmt: skip


def measure(quick: bool) -> tuple[list[Figure], Any]:
    raw: dict[str, Any] = {"starts_ms": starts(10 if quick else 50), "six_kib": six()}
    took = raw["starts_ms"]
    figures = [
        Figure("api: start of a tracker, median", statistics.median(took), "ms", 100, note=f"worst {max(took):.0f} ms"),
        Figure("api: resident memory with six trackers", raw["six_kib"] / 1000 * 1.024, "MB", 60),
    ]
    say("api: cycles")
    raw["cycles"] = told = cycles(100 if quick else 1000)
    before, after = told["before"], told["after"]
    note = f"{told['cycles']} cycles in {told['seconds']:.0f} s under load; lost {told['lost']}"
    everybody = [after[k] - before[k] for k in before if k.startswith("kernel_")]
    figures += [
        Figure("api: BPF objects more of the server", after["bpf_objects"] - before["bpf_objects"], "", 0, note=note),
        Figure(
            "api: BPF objects more of the machine", sum(everybody), "", 0, note=f"programs, maps, links {everybody}"
        ),
        Figure("api: descriptors more", after["descriptors"] - before["descriptors"], "", 0),
        Figure("api: threads more", after["threads"] - before["threads"], "", None),
        Figure("api: resident memory more", after["resident_kib"] - before["resident_kib"], "KiB", None),
    ]
    say("api: swaps")
    with tempfile.TemporaryDirectory(prefix="eunomia-bench-", dir="/dev/shm") as place:
        raw["swaps"] = told = swaps(50 if quick else 500, Path(place) / "numbers.csv")
    took = told["took_ms"]
    gone = told["missing"] - told["refused"] - told["dropped"]
    note = (
        f"{told['swaps']} swaps in {told['calls']:,} events at {told['rate']:,.0f}/s; refused by a full ring "
        f"{told['refused']:,}, dropped by a full queue {told['dropped']:,}"
    )
    figures += [
        Figure("api: lost by swaps", gone, "", 0, note=note),
        Figure("api: doubled by swaps", told["doubled"], "", 0),
        Figure("api: a swap, median", statistics.median(took), "ms", note=f"worst {max(took):.0f} ms"),
    ]
    say("api: slow readers")
    raw["alone"], raw["slow"] = flooded(0), flooded(_READERS)
    for name in ("alone", "slow"):
        told = raw[name]
        note = f"{told['opens_per_second']:,.0f} events/s; memory grew by {told['grown_kib'] / 1024:.0f} MiB"
        figures.append(Figure(f"api: lost with {told['readers']} stuck readers", told["lost"], "", 0, note=note))
    return figures, raw
