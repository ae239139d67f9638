# SPDX-License-Identifier: BSD-2-Clause
"""Foreign programs run, and their streams hold what really happened."""

import os
import time

import pytest

from tests.foreign import activity

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="loading BPF programs takes root")


def plain(row):
    return {name: getattr(row, name) for name in row.__struct_fields__}


@pytest.mark.parametrize("case", activity.CASES, ids=str)
def test_shows_what_happens(case, compiled):
    from eunomia.kernel.errors import Unsupported
    from eunomia.kernel.loaded import Loaded
    from eunomia.kernel.spec import Spec

    spec = Spec.open(compiled(case.name, strip=case.strip), case.event)
    try:
        loaded = Loaded(spec, set_=case.set_, targets=case.attach)
    except Unsupported as missing:
        pytest.skip(f"not supported by this kernel: {missing}")
    rows = []
    with loaded:
        deadline = time.monotonic() + 5
        while time.monotonic() < deadline:
            case.act()
            for batch in loaded.readers[case.stream].drain():
                rows += map(plain, batch.rows())
            if any(case.shows(r) for r in rows if fits(case, r)):
                return
            time.sleep(0.02)
    pytest.fail(f"{len(rows)} rows, the last {rows[-3:]}")


def fits(case, row):
    """Records of several types share a stream; those without the fields asked about do not count."""
    try:
        case.shows(row)
    except KeyError:
        return False
    return True
