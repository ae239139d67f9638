# SPDX-License-Identifier: BSD-2-Clause
"""A stranger's file is opened in a child first."""

import os
import signal
import time

from eunomia.kernel.foreign import open_in_child


class _Libbpf:
    """Stands for a libbpf that a broken file has lost its way in: ours does not, for any file we know."""

    def __init__(self, open_):
        self.eu_open = lambda *_: open_()


def test_a_file_over_which_libbpf_crashes_or_never_ends_is_known(monkeypatch):
    monkeypatch.setattr(open_in_child, "LONGEST", 1)
    monkeypatch.setattr(open_in_child, "log_start", lambda: None)
    monkeypatch.setattr(open_in_child, "lib", _Libbpf(lambda: time.sleep(60)))
    began = time.monotonic()
    assert not open_in_child.survives_opening(b"odd")
    assert time.monotonic() - began < 10
    monkeypatch.setattr(open_in_child, "lib", _Libbpf(lambda: os.kill(os.getpid(), signal.SIGKILL)))
    assert not open_in_child.survives_opening(b"odd")
