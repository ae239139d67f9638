# SPDX-License-Identifier: BSD-2-Clause
"""Times in metadata."""

from datetime import datetime

import pytest

from eunomia.containers.timestamps import nanoseconds


@pytest.mark.parametrize(
    "text",
    ["2026-11-23T23:38:00Z", "2024-02-29T00:00:00.5Z", "2000-12-31T23:59:59.123456+05:30", "1999-03-01T01:02:03-08:00"],
)
def test_a_time_is_what_the_calendar_says(text):
    parsed = datetime.fromisoformat(text)
    assert nanoseconds(text) == int(parsed.timestamp()) * 1_000_000_000 + parsed.microsecond * 1000


def test_nanoseconds_are_kept():
    assert nanoseconds("1970-01-01T00:00:01.123456789Z") == 1_123_456_789


@pytest.mark.parametrize(
    "value",
    [
        None, 5, "", "Z", "yesterday", "0001-01-01T00:00:00Z", "2026-11-23T23:38:00", "2026-11-23T23:38:00?00:00", [],
        "2026-11-23T23:38:0xZ", "9999999-11-23T23:38:00Z", "2026-11-23T23:38:00." + "1" * 100 + "Z", "\u0662" * 20,
    ],
)  # fmt: skip
def test_an_invalid_time_is_none(value):
    assert nanoseconds(value) == 0
