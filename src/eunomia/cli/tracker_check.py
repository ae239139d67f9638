# SPDX-License-Identifier: BSD-2-Clause
"""Checks whether this kernel can run a tracker, by loading and attaching it briefly."""

from __future__ import annotations

import mmap

from eunomia.kernel.errors import BadObject, KernelError, NotPermitted, Unsupported
from eunomia.typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable
    from concurrent.futures import Executor

    from eunomia.tracker import FoundTracker

YES, NO, UNKNOWN = "yes", "no", "unknown"
_AT_ONCE = 16


class Trial(NamedTuple):
    """``runs`` is ``yes``, ``no`` or ``unknown``; ``variant`` names the hooks, ``why`` the reason."""

    runs: str
    variant: str = ""
    why: str = ""


def trials(trackers: Iterable[FoundTracker]) -> list[tuple[FoundTracker, Trial]]:
    """Load, attach and detach each tracker."""
    from concurrent.futures import ThreadPoolExecutor

    # The kernel takes long to detach from a tracepoint: close the tried ones in parallel.
    with ThreadPoolExecutor(_AT_ONCE) as closing:
        return [(found, _try(found, closing)) for found in trackers]


def _try(found: FoundTracker, closing: Executor) -> Trial:
    from eunomia.kernel.loaded import load_first
    from eunomia.kernel.spec import Spec

    if found.broken:
        return Trial(NO, why=found.broken)
    known = found.tracker
    try:
        spec = Spec.open(found.object)
    except FileNotFoundError:
        return Trial(NO, why=f"{found.object} does not exist: build it with make build")
    except (OSError, BadObject) as error:
        return Trial(NO, why=str(error))
    try:
        variant, live = load_first(spec, known.variants, known.always, ring_size=mmap.PAGESIZE)
    except NotPermitted:
        return Trial(UNKNOWN, why="only root can check")
    except Unsupported as error:
        return Trial(NO, why=f"this kernel lacks {error.missing}")
    except KernelError as error:
        return Trial(NO, why=str(error))
    finally:
        spec.close()
    closing.submit(live.close)
    return Trial(YES, variant)
