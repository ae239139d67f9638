# SPDX-License-Identifier: BSD-2-Clause
"""The workloads: each, when called, does its work for some time and tells CPU nanoseconds an operation."""

from __future__ import annotations

import contextlib
import json
import re
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from machine import BUILT, LOAD_CPU, OTHER_CPU, NotMeasured, cpu_ns, running, tool

Load = Callable[[float], float]

NGINX = """\
daemon off; worker_processes 1; pid nginx.pid; error_log stderr crit;
worker_cpu_affinity {mask};
events {{ worker_connections 256; }}
http {{
    access_log off; keepalive_requests 1000000000;
    client_body_temp_path body; proxy_temp_path proxy; fastcgi_temp_path fastcgi;
    uwsgi_temp_path uwsgi; scgi_temp_path scgi;
    server {{ listen 127.0.0.1:{port}; root {root}/www; }}
}}
"""


def run_load(name: str, *arguments: str) -> dict[str, Any]:
    with running([str(BUILT / name), *arguments], stdout=subprocess.PIPE) as process:
        out, _ = process.communicate()
    if process.returncode:
        raise NotMeasured(f"the load {name} failed")
    return json.loads(out)  # type: ignore[no-any-return]


def _of(name: str, *operands: str) -> Load:
    def load(seconds: float) -> float:
        told = run_load(name, "-t", str(seconds), "-c", str(LOAD_CPU), *operands)
        return float(told["cpu_ns_per_op"])

    return load


def _free_port() -> int:
    import socket

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _worker(master: int) -> int:
    deadline = time.monotonic() + 5
    while time.monotonic() < deadline:
        with contextlib.suppress(OSError):
            children = Path(f"/proc/{master}/task/{master}/children").read_text().split()
            if children:
                return int(children[0])
        time.sleep(0.02)
    raise NotMeasured("nginx started no worker")


@contextlib.contextmanager
def nginx(prefix: Path) -> Iterator[Load]:
    """One worker, a small static file, opened anew for each request; wrk on the other CPU."""
    server, client, taskset = tool("nginx"), tool("wrk"), tool("taskset")
    port = _free_port()
    (prefix / "www").mkdir(parents=True)
    (prefix / "www" / "index.html").write_text("Eunomia, daughter of Themis\n" * 8)
    prefix.chmod(0o755)
    config = prefix / "nginx.conf"
    config.write_text(NGINX.format(mask=format(1 << LOAD_CPU, "b"), port=port, root=prefix))
    argv = [server, "-p", str(prefix), "-e", "stderr", "-c", str(config)]
    with running(argv, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as master:
        worker = _worker(master.pid)

        def load(seconds: float) -> float:
            before = cpu_ns(worker)
            drive = [taskset, "-c", str(OTHER_CPU), client, "-t1", "-c8", f"-d{max(1, round(seconds))}s"]
            with running([*drive, f"http://127.0.0.1:{port}/"], stdout=subprocess.PIPE) as process:
                out, _ = process.communicate()
            spent = cpu_ns(worker) - before
            served = re.search(rb"(\d+) requests in", out)
            if not served or not int(served[1]) or b"Non-2xx" in out:
                raise NotMeasured("wrk got no answers from nginx")
            return spent / int(served[1])

        load(1)
        yield load


@contextlib.contextmanager
def workloads() -> Iterator[dict[str, Load]]:
    """All five by name; what cannot run here is left out by its own NotMeasured when called."""
    with contextlib.ExitStack() as stack:
        where = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="eunomia-bench-")))
        shm = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="eunomia-bench-", dir="/dev/shm")))
        existing = where / "existing"
        existing.write_text("here\n")
        loads = {
            "openclose": _of("openclose", str(existing)),
            "readwrite": _of("readwrite", str(shm / "byte")),
            "exec": _of("execs", str(BUILT / "noop")),
            "getppid": _of("getppid"),
        }
        where.chmod(0o755)
        try:
            loads["nginx"] = stack.enter_context(nginx(where / "nginx"))
        except NotMeasured as why:
            loads["nginx"] = _not_here(str(why))
        yield loads


def _not_here(why: str) -> Load:
    def load(_seconds: float) -> float:
        raise NotMeasured(why)

    return load
