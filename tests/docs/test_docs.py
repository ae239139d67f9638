# SPDX-License-Identifier: BSD-2-Clause
"""What the documents say, tried: the tutorial's blocks run, commands are ones that exist, links lead somewhere."""

import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from eunomia.cli.parser import parser
from tests import needs

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted(
    [*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("bench/*.md"), *ROOT.glob("src/eunomia/trackers/*/*.md")]
)
BLOCK = re.compile(r"^```(\w*)(?: (\S+))?\n(.*?)^```$", re.MULTILINE | re.DOTALL)
BIN = Path(sys.executable).parent


def named(page: Path) -> str:
    return str(page.relative_to(ROOT))


def run(script: str, directory: Path) -> str:
    """Run a block of the tutorial as its reader does; return what it wrote, on both outputs."""
    environment = os.environ | {
        "PATH": f"{BIN}:{os.environ['PATH']}",
        # What `pip install` does in the reader's virtual environment, it does beside it here, from no network.
        "PIP_TARGET": str(directory / "site"),
        "PIP_NO_DEPS": "1",
        "PIP_NO_BUILD_ISOLATION": "0",  # the name says the opposite of what pip takes it for
        "PYTHONPATH": str(directory / "site"),
    }
    done = subprocess.run(
        ["bash", "-e", "-c", script], cwd=directory, env=environment, text=True, timeout=120, check=False,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip
    assert done.returncode == 0, f"{script}\n{done.stdout}"
    return done.stdout


def test_the_tutorial_works_from_the_first_block_to_the_last(tmp_path):
    needs.root()
    needs.program("clang", "clang")
    said = []
    for language, file, content in BLOCK.findall((ROOT / "docs/tutorial-first-tracker.md").read_text()):
        if file:
            (tmp_path / file).parent.mkdir(exist_ok=True)
            (tmp_path / file).write_text(content)
        elif language == "sh":
            said.append(run(content, tmp_path))
    compiled, info, table, lines, installed, removals = said
    assert compiled == "", "the compiler has nothing to say about the tutorial's probe"
    assert re.search(r"signal +signal_t +signal name", info)
    assert re.search(r"bash +SIGTERM +\d+ (sleep|bash)\n", table)
    rows = [json.loads(line) for line in lines.splitlines()]
    assert any(row.get("signal") == "SIGTERM" and list(row)[:2] == ["time", "comm"] for row in rows)
    ledger = rows[-1]
    assert ledger["ledger"] == "signals/sent"
    assert (ledger["lost"], ledger["emitted"]) == (0, ledger["delivered"])
    assert re.search(r"signals +yes \(raw_tp\) +Who sends which signal to whom\?", installed)
    assert "eunomia: signals/sent: emitted" in installed
    assert re.search(r" rm +here *\n", removals)
    assert re.search(r"removals/removed: emitted \d+, lost 0", removals)


def test_the_page_on_servers_works_from_the_first_block_to_the_last(tmp_path):
    needs.root()
    needs.program("clang", "clang")
    said = []
    try:
        for language, file, content in BLOCK.findall((ROOT / "docs/remote.md").read_text()):
            if file:
                (tmp_path / file).write_text(content)
            elif language == "sh":
                said.append(run(content, tmp_path))
    finally:
        if (tmp_path / "server.pid").exists():
            subprocess.run(["kill", (tmp_path / "server.pid").read_text().strip()], check=False, capture_output=True)
    _, started, attached, logs, replaced, python = said
    assert re.match(r"process\nID +KIND +STATE .*\nprocess +process +running +1 ", started)
    assert re.match(r"TIME +STREAM +CONTAINER .*\n", attached)
    assert re.search(r"exec .* sleep +sleep 0.1", attached)
    assert "eunomia: process: lost 0\n" in attached
    assert re.search(r"started +process", logs)
    assert logs.endswith("process\n")
    assert re.search(r"\n1 .* replaced .*\n2 .* replaced .*\n3 .* running ", replaced)
    assert re.match(r"\d+ \S+ \[.*\]\nstopped\n", python)


def commands() -> list[tuple[str, str]]:
    """Return the lines that start eunomia in examples, and where each stands."""
    found = []
    for page in PAGES:
        text = page.read_text()
        examples = [m[0] for m in re.finditer(r"^(?: {4}.*\n)+", text, re.MULTILINE)]
        examples += [m[3] for m in BLOCK.finditer(text) if m[1] in {"", "sh"}]
        for line in "".join(examples).splitlines():
            start = re.match(r"\s*(?:sudo )?(?:\.venv/bin/)?eunomia ([^…|>]*)$", line)
            if start and not start[1].startswith(("TRACKER", "run TRACKER")):
                found.append((named(page), start[1]))
    return found


@pytest.mark.parametrize(("page", "command"), commands())
def test_every_command_in_the_documents_is_one(page, command, capsys):
    try:
        parser().parse_args(shlex.split(command, comments=True))
    except SystemExit as end:
        assert end.code == 0, f"{page}: eunomia {command}: {capsys.readouterr().err}"


def test_there_are_commands_in_the_documents():
    assert len({page for page, _ in commands()}) >= 3


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_every_link_leads_somewhere(page):
    text = BLOCK.sub("", page.read_text())
    links = [link for link in re.findall(r"\]\(([^)#]+)[^)]*\)", text) if "://" not in link]
    broken = [link for link in links if not (page.parent / link).exists()]
    assert not broken, f"{named(page)} links to {', '.join(broken)}, which is not there"
