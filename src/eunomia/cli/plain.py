# SPDX-License-Identifier: BSD-2-Clause
"""Reads plain command lines by the commands' own declarations, without argparse.

argparse, with ``re``, ``gettext`` and ``locale`` behind it, takes as long as half of the rest of a start. What is
not plain (``--help``, ``--name=value``, values that begin with a dash, whatever is wrong) is left to it.
"""

from __future__ import annotations

from collections.abc import Sequence
from importlib import import_module

from eunomia.typing import Any

# What add_argument() is told and can be read here; anything else makes a command line not plain.
_ACTIONS = frozenset({"store", "append", "store_true"})
_KNOWN = frozenset({"action", "choices", "default", "dest", "help", "metavar", "nargs"})


class Arguments:
    """What argparse calls a namespace."""


class _Command:
    """Takes declarations as an argparse parser and its groups do, and reads words by them."""

    def __init__(self) -> None:
        self.options: dict[str, dict[str, Any]] = {}
        self.values: dict[str, Any] = {}
        self.several = ""  # the argument that takes the words that are no options, one at least
        self.is_plain = True

    def add_argument(self, *names: str, **told: Any) -> None:
        long = [name for name in names if name.startswith("--")]
        dest = told.get("dest") or (long or names)[0].lstrip("-").replace("-", "_")
        action = told.get("action", "store")
        if names[0].startswith("-"):
            readable = action in _ACTIONS and "nargs" not in told
            self.options |= {name: {**told, "dest": dest, "action": action} for name in names}
        else:
            readable = told.get("nargs") == "+" and not self.several
            self.several = dest
        self.is_plain &= readable and told.keys() <= _KNOWN
        self.values[dest] = told.get("default", False if action == "store_true" else None)

    def add_subparsers(self, **_: object) -> _Command:
        self.is_plain = False
        return self

    def add_argument_group(self, *_: object) -> _Command:
        return self

    def set_defaults(self, **values: Any) -> None:
        self.values.update(values)

    def add_parser(self, name: str, **_: Any) -> _Command:
        self.values["command"] = name
        return self

    def read(self, words: Sequence[str]) -> Arguments | None:
        if not self.is_plain:
            return None
        values = {name: [*value] if isinstance(value, list) else value for name, value in self.values.items()}
        several: list[str] = []
        ended = not self.several  # words in a second place are refused
        at = 0
        while at < len(words):
            word = words[at]
            at += 1
            if not word.startswith("-") or word == "-":
                if ended:
                    return None
                several.append(word)
                continue
            ended = ended or bool(several)
            option = self.options.get(word)
            if option is None:
                return None
            if option["action"] == "store_true":
                values[option["dest"]] = True
                continue
            value = words[at] if at < len(words) else "--"
            at += 1
            if (value.startswith("-") and value != "-") or value not in option.get("choices", (value,)):
                return None
            if option["action"] == "append":
                values[option["dest"]].append(value)
            else:
                values[option["dest"]] = value
        if self.several:
            if not several:
                return None
            values[self.several] = several
        found = Arguments()
        found.__dict__.update(values)
        return found


def read(command: str, words: Sequence[str]) -> Any:
    """Return a command's arguments as argparse would; None for what only that can read, or refuse."""
    reader = _Command()
    import_module(f"eunomia.cli.{command}").add(reader)
    return reader.read(words)
