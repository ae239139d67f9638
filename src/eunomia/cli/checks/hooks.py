# SPDX-License-Identifier: BSD-2-Clause
"""Checks of hooks and trackers: each is attached for a moment."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import Executor, ThreadPoolExecutor
from pathlib import Path

import eunomia.kernel
from eunomia import tracker
from eunomia.cli.checks import FAIL, OK, UNKNOWN, WARN, Finding
from eunomia.cli.tracker_check import NO, YES, trials
from eunomia.kernel.diagnose import kind
from eunomia.kernel.errors import BadObject, KernelError, Unsupported
from eunomia.kernel.loaded import Loaded
from eunomia.kernel.rights import privileged
from eunomia.kernel.spec import Program, Spec

_PROBES = Path(eunomia.kernel.__file__).parent / "probes.bpf.o"
_AT_ONCE = 16


def findings() -> Iterator[Finding]:
    """Yield a finding for each kind of hook, then one for each tracker."""
    if not privileged():
        yield Finding("hooks", UNKNOWN, "only root can tell which work", "sudo eunomia doctor")
        yield Finding("trackers", UNKNOWN, "only root can tell which run", "sudo eunomia doctor")
        return
    yield from _hooks()
    for found, result in trials(tracker.every()):
        subject = f"tracker {found.name}"
        if result.runs == YES:
            yield Finding(subject, OK, f"runs, by {result.variant}")
        else:
            yield Finding(subject, FAIL if result.runs == NO else UNKNOWN, f"cannot run: {result.why}")


def _hooks() -> Iterator[Finding]:
    try:
        spec = Spec.open(_PROBES)
    except (OSError, BadObject) as error:
        yield Finding("hooks", UNKNOWN, str(error), "install Eunomia again: make build")
        return
    with ThreadPoolExecutor(_AT_ONCE) as closing:
        yield from [_try(spec, program, closing) for program in spec.programs]
    spec.close()


def _try(spec: Spec, program: Program, closing: Executor) -> Finding:
    subject = f"hook {kind(program.section)}"
    try:
        live = Loaded.attached(spec, programs=[program.name])
    except Unsupported as error:
        return Finding(
            subject, WARN, f"this kernel lacks {error.missing.rpartition(': ')[2]}",
            "trackers use another hook where there is one; objects that need this one cannot run here",
        )  # fmt: skip
    except KernelError as error:
        return Finding(subject, WARN, str(error), "objects that need this hook cannot run here")
    closing.submit(live.close)
    return Finding(subject, OK, f"works ({program.section})")
