# SPDX-License-Identifier: BSD-2-Clause
"""Filters of outputs change while sources run, and while a source is loaded."""

from collections.abc import Callable

import pytest

from eunomia.filters import Filters
from eunomia.kernel.errors import BadSetting
from eunomia.source import open_source
from tests.engine.conftest import Kept, Live, Opener, until


def test_an_output_takes_other_rows_from_now_on_and_misses_none(live: Live, opener: Callable[[], Opener]):
    one, other, sink = opener(), opener(), Kept()
    live.engine.add(open_source("opensnoop"))
    live.connect("rows", sink, Filters(pids=(one.pid,)))
    live.start()
    one.opens(5)
    until(lambda: sink.pids[one.pid] == 5, sink.pids)
    live.call(lambda: live.engine.refilter({"rows"}, Filters(pids=(other.pid,))))
    one.opens(5)
    other.opens(7)
    until(lambda: sink.pids[other.pid] == 7, sink.pids)
    assert sink.pids == {one.pid: 5, other.pid: 7}


def test_too_many_filters_change_nothing(live: Live, opener: Callable[[], Opener]):
    one, sink = opener(), Kept()
    live.engine.add(open_source("opensnoop"))
    live.connect("rows", sink, Filters(pids=(one.pid,)))
    live.start()
    with pytest.raises(BadSetting):
        live.call(lambda: live.engine.refilter({"rows"}, Filters(pids=tuple(range(1, 2000)))))
    one.opens(3)
    until(lambda: sink.pids[one.pid] == 3, sink.pids)


def test_a_source_that_was_loaded_before_the_filter_changed_follows_the_new_one(
    live: Live, opener: Callable[[], Opener]
):
    one, other, narrow, wide = opener(), opener(), Kept(), Kept()
    live.connect("narrow", narrow, Filters(pids=(one.pid,)))
    live.start()
    prepared = live.engine.prepare(open_source("opensnoop"))
    live.connect("wide", wide, Filters(pids=(one.pid, other.pid)))
    live.call(lambda: live.engine.add(prepared))
    one.opens(3)
    other.opens(4)
    until(lambda: wide.pids[other.pid] == 4, wide.pids)
    until(lambda: narrow.pids[one.pid] == 3, narrow.pids)
    assert (narrow.pids, wide.pids) == ({one.pid: 3}, {one.pid: 3, other.pid: 4})
