# SPDX-License-Identifier: BSD-2-Clause
"""House rules for files."""

import re
from pathlib import Path

from tests.contracts import ROOT

CODE = {".py", ".c", ".h", ".sh", ".toml"}
PLACES = ("src", "tests", "tools", "bench", "docs", "examples", "packaging")
KERNEL = "(GPL-2.0-only OR BSD-2-Clause)"


def sources() -> list[Path]:
    below = [p for place in PLACES for p in (ROOT / place).rglob("*") if p.suffix in CODE]
    own = [p for p in below if not p.name.startswith(".") and "egg-info" not in str(p) and p.name != "_native.c"]
    top = [p for p in ROOT.iterdir() if p.suffix in CODE or p.name == "Makefile"]
    return sorted([*own, *top])


def test_every_source_file_says_its_licence():
    wrong = []
    for path in sources():
        kernel = path.name.endswith(".bpf.c") or "src/eunomia/bpf" in str(path)
        licence = KERNEL if kernel and "tests/" not in str(path) else "BSD-2-Clause"
        head = path.read_text(errors="replace").splitlines()[:2]
        if not any(re.search(rf"SPDX-License-Identifier: .*{re.escape(licence)}", line) for line in head):
            wrong.append(f"{path.relative_to(ROOT)} ({licence})")
    assert not wrong, f"begin these with `SPDX-License-Identifier: LICENCE` in a comment: {', '.join(wrong)}"


def test_every_decision_has_a_number_and_a_title():
    records = sorted((ROOT / "docs/decisions").glob("*.md"))
    assert records
    numbers = [path.name[:4] for path in records]
    for path in records:
        assert re.match(r"\d{4}-[a-z0-9-]+\.md$", path.name), f"{path.name}: name it as in 0007-why-so.md"
        assert path.read_text().startswith("# "), f"{path.name}: begin with a title, `# What was decided`"
    assert len(set(numbers)) == len(numbers), f"two records have one number: {numbers}; take the next free one"


def test_files_are_named_for_what_they_hold():
    vague = re.compile(r"(^|_)(utils?|helpers?|manager|misc|common)(_|$)")
    wrong = [str(p.relative_to(ROOT)) for p in sources() if vague.search(p.name.split(".")[0])]
    assert not wrong, f"name these for what they hold: {', '.join(wrong)}"
