# SPDX-License-Identifier: BSD-2-Clause
"""Finds the maps and globals of a foreign object that hold results, as opposed to internal state.

The evidence is how the programs use them (:mod:`eunomia.kernel.foreign.bytecode`).
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

    Not shown are maps that no program uses, or that programs delete from; single entries in which a record
    or a key is built, or any beside a buffer, unless they count; and maps that only store when
    something began.
    """
    if use is None or use.deletes:
        return False
    if use.since and not use.adds:
        return False
    return not single or not (use.lent or (has_buffers and not use.adds))


def globals_shown(btf: Btf, walked: Walked, section: str, alone: bool) -> list[Member]:
    """Return the globals of a section that programs write to as results, not only as intermediate values.

    ``alone``: there is nothing else to show, so all of them are shown if the code could not be followed.
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
        return False  # one that is too wide is left out, the others are shown
    return not isinstance(bare, Pointer | Opaque)
