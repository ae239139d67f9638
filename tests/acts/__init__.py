# SPDX-License-Identifier: BSD-2-Clause
"""What Python cannot be made to do: acts.c, a program each of whose words is one act."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from tests import needs


@pytest.fixture(scope="session")
def acts(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Return the path of the compiled acts.c; other users can run it too."""
    program = tmp_path_factory.mktemp("acts") / "acts"
    source = Path(__file__).with_name("acts.c")
    warnings = ("-Wall", "-Wextra", "-Werror")
    gcc = needs.program("gcc", "gcc")
    subprocess.run([gcc, "-O2", *warnings, "-pthread", "-o", str(program), str(source)], check=True)
    for directory in program.parents[:3]:
        directory.chmod(0o755)
    return str(program)
