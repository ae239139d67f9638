# SPDX-License-Identifier: BSD-2-Clause
"""Some hundred broken objects, always the same: ``make fuzz-uploads`` reads ten thousand."""

from tests import needs
from tests.fuzz import uploads

OBJECTS = 300
GROWTH = 8192  # kilobytes; what Python keeps from one object to the next differs by a few thousand


def test_broken_objects_are_refused_or_described_and_leave_nothing_behind():
    needs.program("clang", "clang")
    became, before, after = uploads.run(seed=1, count=OBJECTS)
    assert became.total() == OBJECTS
    assert set(became) <= {"refused", "described", "crashed what reads it"}
    assert after[:3] == before[:3]
    assert after.memory < before.memory + GROWTH
    assert after.helper_memory < before.helper_memory + GROWTH
