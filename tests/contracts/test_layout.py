# SPDX-License-Identifier: BSD-2-Clause
"""The layout that the documentation draws is the one on disk."""

import re
from collections import Counter
from collections.abc import Iterator

import pytest

from tests.contracts import PACKAGE, ROOT

ARCHITECTURE = "docs/architecture.md"
GLOSSARY = "docs/glossary.md"
INDENT = 4


def on_disk() -> set[str]:
    """Return the modules without their suffix, the C files with it, and the folders of both with a slash."""
    files = [p for suffix in ("py", "c", "h") for p in PACKAGE.rglob(f"*.{suffix}")]
    own = [p.relative_to(PACKAGE) for p in files if not p.name.startswith(("test_", "_"))]
    paths = {str(p.with_suffix("") if p.suffix == ".py" else p) for p in own}
    folders = {f"{folder}/" for p in own for folder in p.parents if folder.name}
    return paths | folders


def drawn(text: str) -> Iterator[str]:
    """Yield the paths in a drawing of folders: names, then two spaces or more, then what they are.

    What follows a folder, further to the right, is in it.
    """
    head, *lines = text.splitlines()
    assert head == "src/eunomia/", f"{ARCHITECTURE}: begin the drawing with src/eunomia/"
    inside: list[str] = []  # folders, the outermost first
    for line in filter(None, lines):
        depth, odd = divmod(len(line) - len(line.lstrip()), INDENT)
        assert not odd, f"{ARCHITECTURE}: indent by {INDENT} spaces: {line}"
        assert 1 <= depth <= len(inside) + 1, f"{ARCHITECTURE}: nothing is drawn above this line: {line}"
        del inside[depth - 1 :]
        names = re.split(r" {2,}", line.strip())[0].split()
        above = "".join(inside)
        for name in names:
            parents = name.rstrip("/").split("/")[:-1]
            yield from (above + "/".join(parents[: i + 1]) + "/" for i in range(len(parents)))
            yield above + name
        if names[-1].endswith("/"):
            inside.append(names[-1])


def the_drawing() -> list[str]:
    blocks = re.findall(r"^```\n(src/eunomia/\n.*?)^```$", (ROOT / ARCHITECTURE).read_text(), re.MULTILINE | re.DOTALL)
    assert len(blocks) == 1, f"{ARCHITECTURE}: draw the folders once, in a block that begins with src/eunomia/"
    return list(drawn(blocks[0]))


def test_the_drawing_of_folders_names_every_module_once_and_nothing_else():
    names = the_drawing()
    missing, extra = on_disk() - set(names), set(names) - on_disk()
    twice = [name for name, count in Counter(names).items() if count > 1]
    assert not missing, f"{ARCHITECTURE}, Layout: add {', '.join(sorted(missing))} to the drawing"
    assert not extra, f"{ARCHITECTURE}, Layout: remove {', '.join(sorted(extra))}: there is no such file"
    assert not twice, f"{ARCHITECTURE}, Layout: {', '.join(twice)} is drawn more than once"


def test_the_drawing_is_read_as_folders_in_folders():
    text = "src/eunomia/\n    a/   a folder\n        b c   two modules\n        d/\n            e.h\n    f g/h/   more\n        i\n"
    assert list(drawn(text)) == ["a/", "a/b", "a/c", "a/d/", "a/d/e.h", "f", "g/", "g/h/", "g/h/i"]


@pytest.mark.parametrize("page", [ARCHITECTURE, GLOSSARY])
def test_files_that_the_pages_name_exist(page: str):
    """A path is relative to the checkout, or to some folder of the package."""
    text = re.sub(r"^```.*?^```$", "", (ROOT / page).read_text(), flags=re.MULTILINE | re.DOTALL)
    named = [n for n in re.findall(r"`([^`\s]+)`", text) if re.search(r"\.(py|c|h)$|[a-z]/", n)]
    assert named
    wrong = [n for n in named if not (ROOT / n).exists() and not next(PACKAGE.rglob(n.rstrip("/")), None)]
    assert not wrong, f"{page} names {', '.join(wrong)}, which is not there"
