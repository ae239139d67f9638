# SPDX-License-Identifier: BSD-2-Clause
"""The columns that identities give to rows: their names, and what each shows of an identity."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from eunomia.identity import Container, Identity, Mount, Pod

# What every row has unless told otherwise.
JOINED = (
    "container.id",
    "container.name",
    "container.image",
    "container.runtime",
    "pod.name",
    "pod.namespace",
    "pod.uid",
    "identity",
)

# All that can be asked for, by noun.
MEMBERS: dict[str, tuple[str, ...]] = {
    "container": tuple(f"container.{name}" for name in (*Container._fields, "parents")),
    "pod": tuple(f"pod.{name}" for name in Pod._fields),
}

# Each key of these is a column, too: container.labels.app
MAPS = ("container.labels", "container.annotations", "pod.labels", "pod.annotations")
_TIMES = frozenset({"container.created", "container.started"})
_ZERO_IS_UNKNOWN = frozenset({"container.pid"})
_known = frozenset((*JOINED, *MEMBERS["container"], *MEMBERS["pod"]))


def is_joined(name: str) -> bool:
    """Whether a column comes from identities."""
    return name in _known or key_of(name) is not None


def key_of(name: str) -> tuple[str, str] | None:
    """Return the map and the key that ``container.labels.app`` and its like name; None for other columns."""
    for column in MAPS:
        if name.startswith(f"{column}.") and len(name) > len(column) + 1:
            return column, name[len(column) + 1 :]
    return None


def look(name: str) -> Callable[[Identity], Any]:
    """Return what takes a column's value from an identity: text, number, list, dictionary, None.

    Raises :class:`KeyError` for a name that is no such column.
    """
    if name == "identity":
        return lambda identity: identity.state
    if name == "container.parents":
        return lambda identity: list(identity.parents)
    keyed = key_of(name)
    if keyed is not None:
        (noun, _, attribute), key = keyed[0].partition("."), keyed[1]
        return lambda identity: dict(getattr(getattr(identity, noun), attribute, ())).get(key, "")
    if name not in _known:
        raise KeyError(name)
    noun, _, attribute = name.partition(".")
    default = _shown(name, getattr(_NOTHING[noun], attribute))

    def value(identity: Identity) -> Any:
        thing = getattr(identity, noun)
        return default if thing is None else _shown(name, getattr(thing, attribute))

    return value


_NOTHING = {"container": Container(""), "pod": Pod("", "", "")}


def _shown(name: str, value: Any) -> Any:
    if name in MAPS:
        return dict(value)
    if name in _TIMES:
        from eunomia.meaning import rfc3339

        return rfc3339(value) if value else ""
    if name in _ZERO_IS_UNKNOWN:
        return value or None
    if name == "container.mounts":
        return [Mount._asdict(mount) for mount in value]
    return list(value) if isinstance(value, tuple) else value
