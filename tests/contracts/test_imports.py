# SPDX-License-Identifier: BSD-2-Clause
"""Who may know whom: faces -> engine -> parts -> nouns, and nothing heavy before the first row."""

import ast
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests import needs
from tests.contracts import PACKAGE

# Each layer may import those below it, and itself where that is said. The first word of a module is its part.
NOUNS = {
    "_native", "arrays", "batch", "cgroup_hierarchy", "columns", "faults", "identity", "kernel_clock", "meaning",
    "metadata_limits", "process_field", "process_identity", "python_schema", "python_stream", "resolve_in_root", "sd_notify",
    "stream_schema", "tables", "typing",
}  # fmt: skip
PARTS = {"containers", "kernel", "kubernetes", "oci", "processes", "sinks", "tracker", "trackers"}
ENGINE = {"engine", "filters", "ledger", "source"}
FACES = {"cli", "client", "server"}

# Not before the first row of `eunomia run process`: each costs milliseconds or megabytes there.
HEAVY = {
    *("asyncio", "dataclasses", "elftools", "http", "json", "logging", "numpy", "shutil", "socket"),
    # typing, argparse and signal are there for what they import: see docs/decisions/0023
    *("argparse", "datetime", "decimal", "difflib", "enum", "gettext", "inspect", "locale", "msgspec", "re", "shlex"),
    *("signal", "threading", "typing", "typing_extensions", "uuid"),
    *("eunomia.oci", "cryptography", "nacl", "urllib3"),  # for trackers from a registry alone
    *("eunomia.kernel.binaries", "eunomia.kernel.foreign.choice", "eunomia.kernel.perf_events"),
}


def modules() -> Iterator[tuple[str, Path]]:
    for file in sorted(PACKAGE.rglob("*.py")):
        if not file.name.startswith("test_") and "native" not in file.relative_to(PACKAGE).parts:
            name = ".".join(file.relative_to(PACKAGE).with_suffix("").parts)
            yield name.removesuffix(".__init__").removesuffix("__init__"), file


def imported(file: Path) -> Iterator[str]:
    """Yield what a module imports when it runs, in full; inside functions too, for type checkers alone not."""
    skipped: set[int] = set()
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.If) and ast.unparse(node.test) in {"TYPE_CHECKING", "typing.TYPE_CHECKING"}:
            skipped |= {id(below) for child in node.body for below in ast.walk(child)}
        if id(node) in skipped:
            continue
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file}: write imports in full, as in `from eunomia.batch import Batch`"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def edges() -> Iterator[tuple[str, str, str]]:
    """Yield a module, its part and a part of Eunomia that it imports."""
    parts = {name.split(".")[0] for name, _ in modules()} | {"_native"}
    for name, file in modules():
        for target in imported(file):
            package, _, rest = target.partition(".")
            part = rest.split(".")[0]
            if package == "eunomia" and part in parts:  # not so `from eunomia import __version__`
                yield name, name.split(".")[0], part


def test_every_part_has_a_layer():
    known = NOUNS | PARTS | ENGINE | FACES | {""}
    unknown = {name.split(".")[0] for name, _ in modules()} - known
    assert not unknown, f"say in {__file__} to which layer belongs: {', '.join(sorted(unknown))}"


def test_imports_point_inward():
    allowed = {
        **dict.fromkeys(NOUNS, NOUNS),
        **{part: NOUNS | {part} for part in PARTS},
        "trackers": NOUNS | {"tracker", "trackers"},
        **dict.fromkeys(ENGINE, NOUNS | PARTS | ENGINE),
        **{face: NOUNS | PARTS | ENGINE | {face} for face in FACES},
        "client": NOUNS | PARTS | ENGINE | {"client", "server"},  # of the server only what requests hold
        "cli": NOUNS | PARTS | ENGINE | FACES,  # it starts the server
    }
    wrong = [f"{name} imports {target}" for name, part, target in edges() if part and target not in allowed[part]]
    assert not wrong, (
        f"{'; '.join(wrong)}. Imports point inward (faces -> engine -> parts -> nouns) and parts don't import "
        "each other: let the engine pass what is needed, or move it to the nouns"
    )


def test_the_client_needs_nothing_that_the_server_needs():
    for name, file in modules():
        if name.startswith("client"):
            of_server = [i for i in imported(file) if i.startswith("eunomia.server")]
            wrong = [i for i in of_server if not i.startswith("eunomia.server.models.")]
            assert not wrong, f"{name} imports {', '.join(wrong)}: it may know eunomia.server.models alone"
    script = (
        "import sys; import eunomia.client, eunomia.client.rows, eunomia.client.contexts;"
        "print(*({'starlette', 'uvicorn', 'h11', 'wsproto', 'asyncio', 'numpy'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []


def test_what_is_compared_with_the_kernel_s_time_is_told_by_the_kernel_s_clock():
    wrong = [name for name, file in modules() if name != "kernel_clock" and "time.monotonic_ns" in file.read_text()]
    assert not wrong, f"{wrong}: a time namespace moves time.monotonic_ns(): take eunomia.kernel_clock.monotonic_ns"


def test_only_the_command_line_reads_arguments():
    wrong = [name for name, file in modules() if "argparse" in set(imported(file)) and not name.startswith("cli")]
    assert not wrong, f"{wrong} import argparse: options are read in eunomia/cli and passed on as values"


@pytest.mark.parametrize("kind", ["table", "json", "csv"])
def test_nothing_heavy_is_imported_before_rows_are_shown(kind: str):
    needs.root()
    # msgspec imports typing_extensions where some tool has brought it along, which users have not
    script = f"""
import sys
sys.modules["typing_extensions"] = None
from eunomia.cli import main
import eunomia.containers.runtimes
eunomia.containers.runtimes.every = lambda: []  # whose files need msgspec, where containers run
assert main(["run", "process", "-o", {kind!r}, "--columns", "pid,comm,container.name", "--count", "1"]) == 0
print(*(name for name, module in sys.modules.items() if module), file=sys.stderr)
"""
    command = [sys.executable, "-c", script]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    while process.poll() is None:
        subprocess.run(["true"], check=True)
    out, err = process.communicate()
    assert process.returncode == 0, err
    assert out
    found = HEAVY & set(err.splitlines()[-1].split())
    if kind == "csv":  # Python's own csv imports them
        found -= {"re", "enum"}
    assert not found, (
        f"`eunomia run process -o {kind}` imports {', '.join(sorted(found))}: import them in the function that "
        f"needs them; {os.path.basename(sys.executable)} -X importtime tells who does"
    )
