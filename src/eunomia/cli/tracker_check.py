# SPDX-License-Identifier: BSD-2-Clause
"""Whether this kernel can run a tracker: found out by doing it, for a moment."""

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
    """``runs`` is ``yes``, ``no`` or ``unknown``; ``variant`` names the hooks, ``why`` what is amiss."""

    runs: str
    variant: str = ""
    why: str = ""


def trials(trackers: Iterable[FoundTracker]) -> list[tuple[FoundTracker, Trial]]:
    """Load each tracker, attach it and take it off again."""
    from concurrent.futures import ThreadPoolExecutor

    # The kernel waits long before it lets go of a tracepoint: close those that were tried beside each other.
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
        return Trial(NO, why=f"{found.object} is not there: build it with make build")
    except (OSError, BadObject) as error:
        return Trial(NO, why=str(error))
    try:
        variant, live = load_first(spec, known.variants, known.always, ring_size=mmap.PAGESIZE)
    except NotPermitted:
        return Trial(UNKNOWN, why="only root can tell")
    except Unsupported as error:
        return Trial(NO, why=f"this kernel lacks {error.missing}")
    except KernelError as error:
        return Trial(NO, why=str(error))
    finally:
        spec.close()
    closing.submit(live.close)
    return Trial(YES, variant)
