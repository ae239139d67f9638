# SPDX-License-Identifier: BSD-2-Clause
"""Finds columns of foreign records that are stacks: ids of a map of stack traces, or arrays of addresses."""

from __future__ import annotations

import re
from collections.abc import Collection

from eunomia.kernel import stacks
from eunomia.stream_schema import Field, Schema

_ID = re.compile(r"(?:\w+?_)??(?:(k|kern|kernel|u|user|usr)_?)?(?:stack|stk)(?:_?trace)?_?(?:id|idx)")
_ADDRESSES = re.compile(
    r"(?:[ku]|kern|kernel|user|call)?_?(?:stack|stk|stacktrace|stack_trace|callchain|chain|backtrace|bt)s?"
)
_LEAST = 4  # addresses; fewer are not a stack


def marked(schema: Schema, seen: Collection[tuple[str, bool]], has_map: bool) -> Schema:
    """Return a schema with stacks marked as such.

    ``seen`` are the maps that programs put stacks into, and whether of user space; ``has_map`` is whether
    the object has any map of stack traces.
    """
    fields = [_marked(f, seen, has_map) for f in schema.fields.values()]
    if all(new is old for new, old in zip(fields, schema.fields.values(), strict=True)):
        return schema
    return Schema(schema.name, schema.size, fields, schema.doc)


def _marked(field: Field, seen: Collection[tuple[str, bool]], has_map: bool) -> Field:
    name = field.name.rpartition(".")[2].lower()
    if has_map and field.meaning == "" and field.bits is None and field.code in {"i", "I", "q", "Q"}:
        found = _ID.fullmatch(name)
        if found is None:
            return field
        space = (found[1] or "")[:1]
        if not space:
            kinds = {user for _, user in seen}
            if len(kinds) > 1:
                return field  # it may be of either, and there is no evidence
            space = "u" if True in kinds else "k"
        return field._replace(meaning="ustack" if space == "u" else "kstack")
    if field.meaning != "array" or field.length:
        return field
    if field.ctype.startswith("struct bpf_stack_build_id["):
        return field._replace(meaning="stack", show=stacks.build_ids, parts=())
    count = field.code[:-1]
    if field.code[-1] != "Q" or field.parts or not count.isdigit() or int(count) < _LEAST:
        return field
    return field._replace(meaning="stack", show=stacks.addresses) if _ADDRESSES.fullmatch(name) else field
