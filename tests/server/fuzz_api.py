# SPDX-License-Identifier: BSD-2-Clause
"""Have schemathesis call all that a real server describes: `make fuzz-api`. No 500, no hang, nothing undescribed.

Streams are left out: they have no end.
"""

import socket
import subprocess
import sys
import tempfile
from datetime import timedelta
from pathlib import Path

from eunomia.server.tokens import Tokens
from tests.server.conftest import Server

CHECKS = (
    "not_a_server_error,status_code_conformance,content_type_conformance,response_schema_conformance,"
    "response_headers_conformance,unsupported_method,ignored_auth"
)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def main() -> int:
    with tempfile.TemporaryDirectory(prefix="eunomia-fuzz-") as place:
        config = Path(place) / "config.toml"
        config.write_text("[server.limits]\nrequests = 60000\n")
        tokens = Tokens(Path(place) / "state")
        _, secret = tokens.create("fuzz", ["admin"], timedelta(days=1))
        tokens.close()
        port = free_port()
        server = Server(Path(place), "--config", str(config), "--listen", f"127.0.0.1:{port}")
        try:
            for id_ in ("0", "a", "00"):  # names that are tried
                server.ask("POST", "/v1/trackers", {"kind": "process", "id": id_})
            command = [
                Path(sys.executable).with_name("schemathesis"), "run", f"http://127.0.0.1:{port}/openapi.json",
                "-H", f"Authorization: Bearer {secret}", "--checks", CHECKS, "--request-timeout", "60",
                "--exclude-path", "/v1/trackers/{id}/events", "--exclude-path", "/v1/trackers/{id}/ws",
                "--suppress-health-check", "all", *sys.argv[1:],
            ]  # fmt: skip
            failed = subprocess.run(command, cwd=place, check=False).returncode
        finally:
            ended = server.stop()
        log = server.errors.read_text()
        print("\n".join(log.splitlines()[1:]))
        return failed or ended or "Traceback" in log


if __name__ == "__main__":
    sys.exit(main())
