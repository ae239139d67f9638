# SPDX-License-Identifier: BSD-2-Clause
"""The OpenAPI description is valid, and says what is served: no more, no less. So do the page and docs/api.md."""

import re
import subprocess
import sys
from typing import Any, cast

from openapi_spec_validator import OpenAPIV31SpecValidator
from starlette.routing import Route, WebSocketRoute

from eunomia.server import openapi
from eunomia.server.app import application
from eunomia.server.metrics import Answers
from tests.contracts import ROOT
from tests.server.conftest import Server

NOTHING = cast(Any, None)  # of the hub and the log, which are not asked


def test_the_served_description_is_openapi_3_1(server: Server):
    served = server.ask("GET", "/openapi.json").body
    assert served == openapi.description()
    OpenAPIV31SpecValidator(served).validate()


def test_all_that_is_served_is_described_and_nothing_else():
    described = {(method.upper(), path) for path, item in openapi.description()["paths"].items() for method in item}
    served = set()
    for route in application(NOTHING, NOTHING, Answers()).routes:
        assert isinstance(route, Route | WebSocketRoute)
        methods = (route.methods or set()) if isinstance(route, Route) else {"GET"}
        served |= {(method, route.path) for method in methods}
    assert served == described


def test_a_method_that_a_path_has_not_is_refused_with_those_that_it_has(server: Server):
    for method in ("HEAD", "PUT"):
        refused = server.ask(method, "/v1/trackers/x")
        assert refused.status == 405
        assert set(refused.headers["allow"].split(", ")) == {"GET", "PATCH", "DELETE"}


def test_the_reference_is_current():
    done = subprocess.run([sys.executable, ROOT / "tools/gen_api.py"], capture_output=True, text=True, check=True)
    assert (ROOT / "docs/api.md").read_text() == done.stdout, "run `make api`"


def test_metrics_count_trackers_rows_and_answers(server: Server):
    server.ask("POST", "/v1/trackers", {"kind": "process"})
    assert server.ask("GET", "/v1/trackers/nothing").status == 404
    events = iter(server.events("/v1/trackers/process/events"))
    assert next(events)[1] == "schema"
    subprocess.run(["true"], check=True)
    for _ in range(3):
        next(events)
    text = server.ask("GET", "/metrics").body
    for line in (
        'eunomia_trackers{state="running"} 1',
        "eunomia_readers 1",
        'eunomia_rows_lost_total{tracker="process",stream="exec"} 0',
        'eunomia_http_answers_total{status="404"} 1',
        'eunomia_http_answers_total{status="201"} 1',
    ):
        assert line in text.splitlines(), text
    emitted = re.search(r'^eunomia_rows_emitted_total{tracker="process",stream="fork"} (\d+)$', text, re.MULTILINE)
    assert emitted
    assert int(emitted[1]) >= 1
