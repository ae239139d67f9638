# SPDX-License-Identifier: BSD-2-Clause
"""What of a value does not fit a struct: each place by its path, in words for people, with what may have been meant."""

from __future__ import annotations

import copy
import difflib
import re
from collections.abc import Sequence
from functools import lru_cache
from typing import Any, NamedTuple, TypeAlias, TypeVar

import msgspec

from eunomia.server.models import ID

Path: TypeAlias = "tuple[str | int, ...]"  # keys of tables, indices of lists

T = TypeVar("T")

_SHOWN = 40  # characters of a wrong value that is repeated
_MOST = 50  # misfits of one value
_NAMES = {
    "int": "a whole number", "float": "a number", "str": "text", "bool": "true or false", "array": "a list",
    "object": "a table", "null": "nothing", "datetime": "a date", "date": "a date", "time": "a time",
}  # fmt: skip
_FORMS = {
    ID: "lower-case letters, digits, '.', '_' and '-', at most 63, the first a letter or a digit",
    "sha256:": "sha256: and 64 hexadecimal digits",
}
_STEP = re.compile(r"\.([^.\[\]`]+)|\[(\d+|\.\.\.)\]")


class Misfit(NamedTuple):
    """A place that does not fit, and why."""

    path: Path
    sentence: str

    @property
    def where(self) -> str:
        """The path as text."""
        return written(self.path)

    def __str__(self) -> str:
        return f"{self.where}: {self.sentence}" if self.path else self.sentence


def written(path: Path) -> str:
    """Return a path as in ``trackers[2].filters.uids[0]``."""
    return "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in path).removeprefix(".")


def fitted(value: Any, kind: type[T], at: Path = ()) -> tuple[T | None, list[Misfit]]:
    """Return a value as a struct, or None and all that does not fit. ``at`` is the path of the value itself.

    ``value`` is what TOML or JSON hold.
    """
    found: list[Misfit] = []
    rest, removed = copy.deepcopy(value), set[Path]()
    while len(found) < _MOST:
        try:
            made = msgspec.convert(rest, kind)
        except msgspec.ValidationError as error:
            misfit = explained(error, rest, kind)
            if misfit.path not in removed:  # one that is required, and had a wrong value
                found.append(misfit._replace(path=(*at, *misfit.path)))
            key = _remove(rest, misfit.path)
            if key is None:
                break
            removed.add(key)
        else:
            return (None, found) if found else (made, [])
    return None, found


def explained(error: msgspec.ValidationError, value: Any, kind: Any) -> Misfit:
    """Return the place and the reason of msgspec's error in converting ``value`` to ``kind``."""
    sentence, _, place = str(error).partition(" - at `")
    path = _path(place.removeprefix("key` in `"), error, value, kind)
    node = _node(_described(kind), path)
    quoted = sentence.split("`")[1] if "`" in sentence else ""
    if sentence.startswith("Object contains unknown field"):
        return Misfit((*path, quoted), unknown(quoted, _fields(node)))
    if sentence.startswith("Object missing required field"):
        return Misfit((*path, quoted), "it is missing")
    given = _at(value, path)
    if isinstance(node, msgspec.inspect.LiteralType):
        return Misfit(path, unknown(str(given), [str(v) for v in node.values]))
    return Misfit(path, f"{_shown(given)} is not {_expected(sentence, quoted)}")


@lru_cache(16)
def _described(kind: Any) -> Any:
    return msgspec.inspect.type_info(kind)


def unknown(word: str, known: Sequence[str]) -> str:
    """Return the sentence for a word that is not one of the known ones, with the one that may have been meant."""
    close = difflib.get_close_matches(word, known, 1)
    hint = f"did you mean {close[0]}?" if close else f"there are {', '.join(known)}" if known else "there are none"
    return f"there is no {_shown(word)}: {hint}"


def _expected(sentence: str, quoted: str) -> str:
    """Return what msgspec expected, from ``Expected `int` >= 1`` and the like."""
    name = " or ".join(dict.fromkeys(_NAMES.get(one, one) for one in quoted.split(" | ")))
    behind = sentence.partition(f"`{quoted}`")[2].partition(", got")[0].strip()
    if "matching regex" in behind:
        form = next((text for pattern, text in _FORMS.items() if pattern in behind), behind.partition("regex ")[2])
        return f"of the form: {form}"
    if not behind:
        return name
    bound = behind.removeprefix("of length ")
    number = bound.lstrip("<>= ").removesuffix(".0")
    relation = "at least" if bound.startswith(">") else "at most"
    if bound != behind:
        unit = {"array": "entries", "object": "entries"}.get(quoted, "characters")
        is_filled = (quoted, bound) == ("str", ">= 1")
        return "text that is not empty" if is_filled else f"{name} of {relation} {number} {unit}"
    return f"{name} of {relation} {number}"


def _shown(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, list):
        return f"a list of {len(value)}" if value else "an empty list"
    if isinstance(value, dict):
        return "a table"
    if value is None:
        return "null"
    text = str(value)
    text = text if len(text) <= _SHOWN else f"{text[:_SHOWN]}..."
    return f"'{text}'" if isinstance(value, str) else text


def _path(place: str, error: msgspec.ValidationError, value: Any, kind: Any) -> Path:
    """Return msgspec's path, with the key for ``[...]``, which stands for any key of a table."""
    path: Path = ()
    for key, index in _STEP.findall(place):
        if index == "...":
            path = (*path, _wrong_key(path, error, value, kind))
        else:
            path = (*path, int(index) if index else key)
    return path


def _wrong_key(path: Path, error: msgspec.ValidationError, value: Any, kind: Any) -> str:
    """Return the key of a table with which alone the error is the same."""
    for key in _at(value, path):
        alone = copy.deepcopy(value)
        table = _at(alone, path)
        for other in [other for other in table if other != key]:
            del table[other]
        try:
            msgspec.convert(alone, kind)
        except msgspec.ValidationError as again:
            if str(again) == str(error):
                return str(key)
    return "..."


def _node(node: Any, path: Path) -> Any:
    """Return the description of the type at a path; None if there is none."""
    inspect = msgspec.inspect
    for step in path:
        if isinstance(node, inspect.Metadata):
            node = node.type
        if isinstance(node, inspect.StructType):
            node = next((f.type for f in node.fields if f.encode_name == step), None)
        elif isinstance(node, inspect.DictType):
            node = node.value_type
        else:
            node = getattr(node, "item_type", None)
    return node.type if isinstance(node, inspect.Metadata) else node


def _fields(node: Any) -> list[str]:
    return [f.encode_name for f in node.fields] if isinstance(node, msgspec.inspect.StructType) else []


def _at(value: Any, path: Path) -> Any:
    for step in path:
        try:
            value = value[step]
        except (KeyError, IndexError, TypeError):
            return None
    return value


def _remove(value: Any, path: Path) -> Path | None:
    """Remove the innermost entry of a table on a path; return its path, None if there is nothing to remove."""
    while path and not _is_entry(_at(value, path[:-1]), path[-1]):
        path = path[:-1]
    if not path:
        return None
    del _at(value, path[:-1])[path[-1]]
    return path


def _is_entry(table: Any, key: str | int) -> bool:
    return isinstance(table, dict) and key in table
