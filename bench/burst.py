# SPDX-License-Identifier: BSD-2-Clause
"""A burst of the shortest pods on a loaded machine: does each one's row say whose it is, in every Eunomia?

    sudo .venv/bin/python bench/burst.py [--pods 200] [--jobs 8] [--hogs 20] [--eunomias 5] [--keep] [--no-flood]

A private containerd with CRI (tests/runtimes) runs pods of one container each, which runs ``true``; each is removed
when it has ended, or at the end with --keep. Beside it stress-ng keeps the processors busy, and a program opens
a file without end, which each Eunomia (``run process opensnoop -o json``) shows too. Exits with 1 unless each
Eunomia told of each pod's program once, with the right names, and of none as the host's, pending or unknown.
"""

from __future__ import annotations

import argparse
import json
import os
import queue
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from tests.runtimes.containerd import Containerd, private_containerd
from tests.runtimes.cri import Cri, decoded

EUNOMIA = [sys.executable, "-c", "import sys; from eunomia.cli import main; sys.exit(main())"]
FLOOD = """
import os
while True:
    os.close(os.open("/etc/hostname", os.O_RDONLY))
"""
_EXITED = 2  # ContainerState of CRI
_WITHIN = 300  # seconds


@contextmanager
def running(*command: str, **options: Any) -> Iterator[subprocess.Popen[bytes]]:
    with subprocess.Popen(command, **options) as process:
        try:
            yield process
        finally:
            process.terminate()  # SIGINT is ignored by what a shell started in the background


@contextmanager
def eunomia(where: Path, number: int, mark: str) -> Iterator[Path]:
    """Run an Eunomia; yield the file of its rows. What it says is in ``N.err``."""
    rows = where / f"{number}.json"
    with rows.open("wb") as out, (where / f"{number}.err").open("wb") as err:
        command = (*EUNOMIA, "run", "process", "opensnoop", "-o", "json")
        with running(*command, stdout=out, stderr=err) as it:
            while mark.encode() not in rows.read_bytes():
                subprocess.run(["true", f"{mark}-ready"], check=True)
                time.sleep(0.1)
            yield rows
            it.send_signal(signal.SIGINT)
            it.wait()


def pods(containerd: Containerd, number: int, jobs: int, mark: str, keep: bool) -> dict[str, str]:
    """Run pods to their ends; return the ids of their containers by the word that each carries."""
    clients: queue.SimpleQueue[Cri] = queue.SimpleQueue()
    for _ in range(jobs):
        clients.put(Cri(containerd.socket, f"/{containerd.directory.name}", _WITHIN))

    def one(n: int) -> tuple[str, str]:
        client, word = clients.get(), f"{mark}-{n}"
        pod = client.pod(word, image=containerd.image, command=("true", word))
        container_id = pod.containers["app"]
        while decoded(client.call("ContainerStatus", {1: container_id})[1][0]).get(3, [0])[0] != _EXITED:
            time.sleep(0.05)
        if not keep:
            client.remove(pod.sandbox)
        clients.put(client)
        return word, container_id

    try:
        with ThreadPoolExecutor(jobs) as pool:
            return dict(pool.map(one, range(number)))
    finally:
        while not clients.empty():
            clients.get().close()


def judge(file: Path, mark: str, made: dict[str, str], image: str) -> dict[str, Any]:
    """Return how an Eunomia's rows come out: identities, words without a row, and words with another than is right."""
    with file.open("rb") as lines:
        rows = [json.loads(line) for line in lines if mark.encode() in line]
    programs = [row for row in rows if row["stream"] == "exec" and row["argv"][0] == "true"]
    execs = {word: row for row in programs for word in row["argv"][1:2]}
    identities = Counter(execs[word]["identity"] for word in made if word in execs)
    wrong = []
    for word, container_id in made.items():
        row = execs.get(word, {})
        container, pod = row.get("container", {}), row.get("pod", {})
        told = (container.get("id"), container.get("name"), container.get("image"), pod.get("name"))
        if row and told != (container_id, "app", image, word):
            wrong.append((word, row["identity"], *told))
    missing = sum(word not in execs for word in made)
    return {"identities": dict(identities), "missing": missing, "not right": len(wrong), "of these": wrong[:3]}


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--pods", type=int, default=200)
    parser.add_argument("--jobs", type=int, default=8, help="pods started at the same time")
    parser.add_argument("--hogs", type=int, default=20, help="processes of stress-ng")
    parser.add_argument("--eunomias", type=int, default=5)
    parser.add_argument("--keep", action="store_true", help="remove pods at the end, not each at its end")
    parser.add_argument("--no-flood", action="store_true", help="without the program that opens files")
    given = parser.parse_args()
    mark = f"eu{os.getpid()}x"
    with ExitStack() as stack:
        where = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="eunomia-bench-")))
        containerd = stack.enter_context(private_containerd())
        pods(containerd, 1, 1, f"warm{os.getpid()}", False)
        told = ExitStack()
        with told:
            files = [told.enter_context(eunomia(where, n, mark)) for n in range(given.eunomias)]
            with ExitStack() as load:
                if given.hogs:
                    load.enter_context(running("stress-ng", "--quiet", "--cpu", str(given.hogs)))
                if not given.no_flood:
                    load.enter_context(running(sys.executable, "-S", "-c", FLOOD, stderr=subprocess.DEVNULL))
                began = time.monotonic()
                made = pods(containerd, given.pods, given.jobs, mark, given.keep)
                took = time.monotonic() - began
            print(f"{given.pods} pods in {took:.0f} s at a load of {os.getloadavg()[0]:.1f}", flush=True)
        outcomes = [judge(file, mark, made, containerd.image) for file in files]
        for n, outcome in enumerate(outcomes):
            print(json.dumps(outcome))
            print((where / f"{n}.err").read_text(errors="replace").strip())
    right = all(o["identities"] == {"resolved": given.pods} and not o["not right"] for o in outcomes)
    print("complete" if right else "NOT complete")
    return int(not right)


if __name__ == "__main__":
    sys.exit(main())
