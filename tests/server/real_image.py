# SPDX-License-Identifier: BSD-2-Clause
"""The image is built and its server runs trackers with few capabilities: ``make test-image``, some minutes."""

import os
import shutil
import socket
import subprocess
import tempfile
from itertools import islice
from pathlib import Path

from eunomia.server import privileges
from tests.contracts import ROOT
from tests.kernel import compiled
from tests.server.conftest import Server

FOREIGN = Path(__file__).parents[1] / "foreign"
IMAGE = "eunomia:test"


class _InContainer(Server):
    """A server that runs in a container, and its API."""

    def __init__(self, docker, directory: Path) -> None:
        self.docker, self.socket = docker, directory / "eunomia.sock"
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as told:
            told.bind(str(directory / "notify"))
            # Debian 12's Docker does not know BPF and PERFMON: SYS_ADMIN stands for both
            given = privileges.SERVER - {"BPF", "PERFMON"} | {"SYS_ADMIN"}
            docker.run(
                "run", "-d", "--name", "eunomia", "--pid=host", "--cgroupns=host", "--network=none", "--read-only",
                "--cap-drop=ALL", *(f"--cap-add={name}" for name in sorted(given)), "--security-opt=seccomp=unconfined",
                "-v", "/sys/kernel/tracing:/sys/kernel/tracing:ro", "-v", f"{directory}:/run/eunomia",
                "-e", "NOTIFY_SOCKET=/run/eunomia/notify", IMAGE, "server", "--keep-capability", "SYS_ADMIN",
            )  # fmt: skip
            told.settimeout(1)
            while True:
                try:
                    assert told.recv(64).startswith(b"READY=1")
                    break
                except TimeoutError:
                    running = docker.run("inspect", "-f", "{{.State.Running}}", "eunomia").stdout.strip()
                    assert running == "true", docker.run("logs", "eunomia").stderr


def test_the_image_is_built_and_its_server_runs_trackers_and_reads_uploads(docker):
    build = [ROOT / "packaging/oci/build.sh", IMAGE]
    subprocess.run(build, env={**os.environ, "DOCKER": f"docker -H unix://{docker.socket}"}, check=True)
    folder = Path(tempfile.mkdtemp(prefix="eunomia-image-"))
    try:
        server = _InContainer(docker, folder)
        for kind in ("process", "opensnoop", "syscall", "container"):
            answer = server.ask("POST", "/v1/trackers", {"kind": kind})
            assert answer.status == 201, answer.body
        uploaded = server.ask("POST", "/v1/objects", compiled.bpf((FOREIGN / "minimal.bpf.c").read_text()))
        assert uploaded.status == 201, uploaded.body
        assert server.ask("POST", "/v1/objects", b"\x7fELF").status == 422
        rows = server.events("/v1/trackers/process/events")
        docker.run("run", "-d", "--name", "beside", docker.image, "sh", "-c", "while :; do /bin/busybox true; done")
        some = islice(rows, 20_000)
        assert any(kind == "row" and (row.get("container") or {}).get("name") == "beside" for _, kind, row in some)
        rows.close()
        assert docker.run("stop", "-t", "20", "eunomia").returncode == 0
        assert docker.run("inspect", "-f", "{{.State.ExitCode}}", "eunomia").stdout.strip() == "0"
    finally:
        print(docker.run("logs", "eunomia", check=False).stderr)
        docker.run("rm", "-f", "eunomia", "beside", check=False)
        shutil.rmtree(folder)
