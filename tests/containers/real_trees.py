# SPDX-License-Identifier: BSD-2-Clause
"""Trees of real runtimes, compared with their answers: ``make test-trees TREES=DIRECTORY``; not in ``make test``."""

import os
import shutil
from pathlib import Path

import pytest

from tests.containers import trees

TREES = sorted(p.parent for p in Path(os.environ.get("TREES", "/nowhere")).glob("*/truth.json"))


def test_there_are_trees():
    assert TREES, "TREES names a directory with trees, each with a truth.json"


@pytest.mark.parametrize("tree", TREES, ids=lambda tree: tree.name)
def test_all_metadata_of_a_real_tree_is_true(tree, tmp_path):
    copy = tmp_path / "tree"
    shutil.copytree(tree, copy)
    trees.settle(copy)
    compare = trees.containerds if (copy / "state").is_dir() else trees.crios
    found = compare(copy)
    assert found
    assert not (wrong := {key: lines for key, lines in found.items() if lines}), "\n".join(
        f"{key[:30]}: {line}" for key, lines in wrong.items() for line in lines
    )
