# SPDX-License-Identifier: BSD-2-Clause
"""What the measures run on, and the care with which they start and stop things."""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import platform
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
BUILT = ROOT / "build" / "bench"
EUNOMIA = ROOT / ".venv" / "bin" / "eunomia"
FLOOD = BUILT / "flood.bpf.o"

# The load runs on the last CPU alone; whoever watches, on whatever the scheduler gives it.
LOAD_CPU = (os.cpu_count() or 1) - 1
OTHER_CPU = 0
TRACEFS = Path("/sys/kernel/tracing")
PR_SET_PDEATHSIG = 1


class NotMeasured(Exception):
    """Why a figure is missing, in a few words."""


def say(text: str) -> None:
    """Progress, on stderr: stdout is for the table."""
    print(text, file=sys.stderr, flush=True)


def build() -> None:
    make = ["make", "-s", "-C", str(ROOT / "bench")]
    done = subprocess.run(make, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"bench: building the loads failed:\n{done.stderr.strip()}")


def eunomia() -> str:
    if not EUNOMIA.exists():
        raise NotMeasured("eunomia is not built: make build")
    return str(EUNOMIA)


def tool(name: str) -> str:
    found = shutil.which(name, path=os.environ.get("PATH", "") + ":/usr/sbin:/sbin")
    if found is None:
        raise NotMeasured(f"{name} is not installed")
    return found


@contextlib.contextmanager
def tracefs() -> Iterator[None]:
    """Debian's libbpf-tools and bpftrace need it mounted; Eunomia does not."""
    if (TRACEFS / "events").is_dir():
        yield
        return
    mount = ["mount", "-t", "tracefs", "tracefs", str(TRACEFS)]
    mounted = subprocess.run(mount, capture_output=True, check=False)
    if mounted.returncode:
        say("tracefs is not mounted and cannot be: the twins will not run")
        yield
        return
    say(f"mounted tracefs on {TRACEFS} for the twins; it goes again at the end")
    try:
        yield
    finally:
        subprocess.run(["umount", "-l", str(TRACEFS)], capture_output=True, check=False)


def _die_with_parent() -> None:
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


@contextlib.contextmanager
def running(argv: list[str], **how: Any) -> Iterator[subprocess.Popen[bytes]]:
    """A process that is gone when the block ends, however it ends."""
    process = subprocess.Popen(argv, start_new_session=True, preexec_fn=_die_with_parent, **how)
    try:
        yield process
    finally:
        stop(process)


def stop(process: subprocess.Popen[bytes], patience: float = 5.0) -> None:
    """Ask it to end as Ctrl-C does, and insist when it does not."""
    for signo, wait in ((signal.SIGINT, patience), (signal.SIGTERM, 1.0), (signal.SIGKILL, None)):
        if process.poll() is not None:
            break
        process.send_signal(signo)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(wait)
    for stream in (process.stdin, process.stdout, process.stderr):
        if stream is not None:
            with contextlib.suppress(OSError):
                stream.close()


def wait_attached(process: subprocess.Popen[bytes], timeout: float = 15.0) -> None:
    """Return when its BPF links stand and have stopped growing in number."""
    deadline, before, since = time.monotonic() + timeout, 0, 0.0
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise NotMeasured(f"{Path(str(process.args[0])).name} ended at once")  # type: ignore[index]
        now = links(process.pid)
        if now != before:
            before, since = now, time.monotonic()
        elif now and time.monotonic() - since > 1:  # an object that the kernel verifies adds none for a while
            return
        time.sleep(0.02)
    raise NotMeasured("it attached nothing within 15 s")


def links(pid: int) -> int:
    """How many BPF links and perf events a process holds."""
    count = 0
    with contextlib.suppress(OSError):
        for fd in Path(f"/proc/{pid}/fd").iterdir():
            with contextlib.suppress(OSError):
                count += any(kind in os.readlink(fd) for kind in ("bpf_link", "bpf-link", "perf_event"))
    return count


def cpu_ns(pid: int) -> int:
    """CPU time of a process in ns, all of its threads: exact, where /proc/PID/stat counts hundredths."""
    total = 0
    for task in Path(f"/proc/{pid}/task").iterdir():
        with contextlib.suppress(OSError):
            total += int((task / "schedstat").read_text().split()[0])
    return total


def facts() -> dict[str, Any]:
    """Which machine it was, and how fast a system call is on it: most costs are a multiple of that."""
    said = Path("/proc/cpuinfo").read_text().splitlines()
    models = [line.partition(":")[2].strip() for line in said if line.startswith("model name")]
    told = [
        json.loads(
            subprocess.run([str(BUILT / "getppid"), "-t", "0.2"], capture_output=True, check=True).stdout
        )
        for _ in range(3)
    ]
    return {
        "kernel": platform.release(),
        "cpus": os.cpu_count(),
        "cpu": models[0] if models else platform.machine(),
        "bare_getppid_ns": sorted(t["cpu_ns_per_op"] for t in told)[1],
        "python": platform.python_version(),
        "load_average": os.getloadavg()[0],
    }
