# SPDX-License-Identifier: BSD-2-Clause
"""The unit files are right, and let the server do what it does."""

import os
import re
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from eunomia.server import privileges
from tests import needs
from tests.contracts import ROOT
from tests.kernel import compiled
from tests.server.conftest import Server

UNITS = ROOT / "packaging/systemd"
FOREIGN = Path(__file__).parents[1] / "foreign"
EXPOSURE = 42  # tenths, as `systemd-analyze security` rates it; 100 is no protection at all


def setting(name: str) -> list[list[str]]:
    lines = (UNITS / "eunomia.service").read_text().splitlines()
    return [line.partition("=")[2].split() for line in lines if line.startswith(f"{name}=")]


def installed(tmp_path: Path) -> Path:
    """Return the service beside its socket, with a program that is there."""
    for name in ("eunomia.service", "eunomia.socket"):
        text = (UNITS / name).read_text()
        (tmp_path / name).write_text(text.replace("/usr/bin/eunomia", "/bin/true"))
    return tmp_path / "eunomia.service"


def test_systemd_finds_nothing_wrong_with_the_units(tmp_path):
    analyze = needs.program("systemd-analyze", "systemd")
    service = installed(tmp_path)
    command = [analyze, "verify", "--man=no", service, service.with_name("eunomia.socket")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout + done.stderr) == (0, "")


def test_the_service_is_as_closed_as_it_was(tmp_path):
    analyze = needs.program("systemd-analyze", "systemd")
    command = [analyze, "security", "--offline=yes", "--no-pager", f"--threshold={EXPOSURE}", installed(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


def test_the_service_has_the_capabilities_that_the_server_keeps():
    for name in ("AmbientCapabilities", "CapabilityBoundingSet"):
        (capabilities,) = setting(name)
        assert {word.removeprefix("CAP_") for word in capabilities} == privileges.SERVER


def groups(analyze: str) -> dict[str, set[str]]:
    """Return systemd's groups of system calls, by what they are called."""
    text = subprocess.run([analyze, "syscall-filter", "--no-pager"], capture_output=True, text=True, check=True).stdout
    found: dict[str, set[str]] = {}
    for line in text.splitlines():
        if line.startswith("@"):
            found[line.strip()] = current = set()
        elif line.startswith("    ") and not line.strip().startswith("#"):
            current.add(line.strip())
    return found


def allowed(analyze: str) -> set[str]:
    """Return the system calls that the service may make."""
    known = groups(analyze)

    def spread(word: str) -> set[str]:
        return {call for name in known[word] for call in spread(name)} if word.startswith("@") else {word}

    calls = spread("@default")
    for first, *others in setting("SystemCallFilter"):
        words = {call for word in (first.removeprefix("~"), *others) for call in spread(word)}
        calls = calls - words if first.startswith("~") else calls | words
    return calls


def test_the_service_may_make_every_system_call_that_the_server_makes(tmp_path):
    needs.root()
    strace, analyze = needs.program("strace", "strace"), needs.program("systemd-analyze", "systemd")
    calls = tmp_path / "calls"
    os.mkfifo(calls)
    with ThreadPoolExecutor(1) as pool:
        reading = pool.submit(calls.read_text)  # until strace ends, which is after the server
        # -D: what is started is the server, and not strace
        _use_all_of(Server(tmp_path, before=[strace, "-D", "-f", "-qq", "-o", str(calls), "-e", "signal=none"]))
        text = reading.result()
    made = set(re.findall(r"^\d+ +([a-z_0-9]+)\(", text, re.MULTILINE))
    assert {"bpf", "perf_event_open", "capset"} <= made
    assert made - allowed(analyze) == set()


def _use_all_of(server: Server) -> None:
    try:
        for kind in ("process", "opensnoop", "syscall", "container"):
            assert server.ask("POST", "/v1/trackers", {"kind": kind}).status == 201
        for name in ("minimal", "xdp_count", "profile"):
            data = compiled.bpf((FOREIGN / f"{name}.bpf.c").read_text())
            uploaded = server.ask("POST", "/v1/objects", data)
            assert uploaded.status == 201
            attach = {"count": ["lo"]} if name == "xdp_count" else {}
            answer = server.ask("POST", "/v1/trackers", {"object": uploaded.body["object"], "attach": attach})
            assert answer.status == 201, answer.body
        for tracker in server.ask("GET", "/v1/trackers").body["trackers"]:
            assert server.ask("DELETE", f"/v1/trackers/{tracker['id']}").status in {200, 204}
    finally:
        assert server.stop() == 0
