# SPDX-License-Identifier: BSD-2-Clause
"""Which maps and globals of a stranger's object hold results, and which it keeps for itself.

The evidence is what the programs do with them (:mod:`eunomia.kernel.foreign.bytecode`).
"""

from __future__ import annotations

from collections.abc import Iterable

from eunomia.kernel.btf import Btf
from eunomia.kernel.errors import BadObject
from eunomia.kernel.foreign.bytecode import MapUse, Walked
from eunomia.kernel.types import Array, Member, Opaque, Pointer, Type, strip
from eunomia.kernel.width import check

_UNUSED = MapUse([])


def is_result(use: MapUse | None, single: bool, has_buffers: bool) -> bool:
    """Return whether a map's entries are shown; ``single`` is an array of one entry.

    Not shown are maps that no program touches, or that programs delete from; single entries in which a record
    or a key is put together, or whatever else beside a buffer, unless it counts; and what only keeps when
    something began.
    """
    if use is None or use.deletes:
        return False
    if use.since and not use.adds:
        return False
    return not single or not (use.lent or (has_buffers and not use.adds))


def globals_shown(btf: Btf, walked: Walked, section: str, alone: bool) -> list[Member]:
    """Return the globals of a section that programs write to, and do not only use to make something else of.

    ``alone``: there is nothing else to show, so that all of them are shown where the code could not be followed.
    """
    shown = []
    used = [(at, use) for (name, at), use in walked.globals.items() if name == section]
    for in_section, name, offset, size, id_ in btf.variables():
        if in_section != section:
            continue
        type_ = btf.variable_type(id_)
        use = _together(u for at, u in used if offset <= at < offset + size)
        unsure = alone and not walked.whole
        if _shows(type_) and (unsure or (use.writes and not use.lent and (use.adds or not use.since))):
            shown.append(Member(name, type_, offset * 8, 0, btf.tags(id_)))
    return shown


def _together(uses: Iterable[MapUse]) -> MapUse:
    found = _UNUSED
    for use in uses:
        found = found._replace(
            writes=found.writes or use.writes,
            adds=found.adds or use.adds,
            since=found.since or use.since,
            lent=found.lent or use.lent,
        )
    return found


def _shows(type_: Type) -> bool:
    bare = strip(type_)
    while isinstance(bare, Array):
        bare = strip(bare.element)
    try:
        check("", type_)
    except BadObject:
        return False  # one that is too wide does not keep the others from being shown
    return not isinstance(bare, Pointer | Opaque)
