# SPDX-License-Identifier: BSD-2-Clause
"""A tracker's folder on disk: its source, its object, what ``tracker.py`` declares, its README."""

from __future__ import annotations

import os

from eunomia.oci.errors import DistributionError
from eunomia.typing import TYPE_CHECKING

if TYPE_CHECKING:
    from eunomia.tracker import Tracker


def declared(folder: str) -> Tracker | None:
    """Return the ``TRACKER`` of a folder's ``tracker.py``, which is run; None if there is no such file."""
    from importlib.util import module_from_spec, spec_from_file_location

    from eunomia.tracker import Tracker

    path = os.path.join(folder, "tracker.py")
    if not os.path.exists(path):
        return None
    spec = spec_from_file_location("eunomia_pushed_tracker", path)
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
        found = module.TRACKER
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # whatever its author wrote
        raise DistributionError(f"{path}: {type(error).__name__}: {error}") from None
    if not isinstance(found, Tracker):
        raise DistributionError(f"{path}: TRACKER is a {type(found).__name__}, not a Tracker")
    return found


def check(folder: str) -> None:
    """Raise an error if ``tracker.py`` declares programs that the object beside it does not have."""
    known = declared(folder)
    if known is None:
        return
    from eunomia.kernel.spec import Spec

    path = object_of(folder)
    spec = Spec.open(path, derived=known.derived)
    try:
        missing = sorted(named(known) - {program.name for program in spec.programs})
    finally:
        spec.close()
    if missing:
        raise DistributionError(f"{path}: it has no program {', '.join(missing)}, which tracker.py declares")


def named(known: Tracker) -> set[str]:
    """Return the programs that a tracker declares."""
    return {name for variant in known.variants for name in variant.programs} | {*known.always}


def object_of(folder: str) -> str:
    """Return the path of a folder's object; raises an error if it is not clear which it is."""
    found = sorted(entry.path for entry in os.scandir(folder) if entry.name.endswith(".bpf.o"))
    name = os.path.basename(os.path.abspath(folder))
    usual = os.path.join(folder, f"{name}.bpf.o")
    if usual in found:
        return usual
    if len(found) == 1:
        return found[0]
    if not found:
        raise DistributionError(f"{folder}: there is no *.bpf.o in this folder: eunomia build {folder}")
    raise DistributionError(f"{folder}: there are {len(found)} objects, and none is {name}.bpf.o")


def texts(folder: str) -> list[str]:
    """Return the files that tell people about a tracker: the sources of its probes, and its README."""
    names = sorted(entry.name for entry in os.scandir(folder) if entry.is_file())
    return [os.path.join(folder, name) for name in names if name.endswith((".bpf.c", ".h")) or name == "README.md"]
