# SPDX-License-Identifier: BSD-2-Clause
"""The parser of the command line: argparse, with each command's module declaring its part."""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence
from importlib import import_module

from eunomia import __version__
from eunomia.cli import COMMANDS
from eunomia.typing import Any, NoReturn, TypeAlias

Subparsers: TypeAlias = "argparse._SubParsersAction[argparse.ArgumentParser]"

EXAMPLES = """\
examples:
  sudo eunomia run process              every program that starts and ends, and whose container it is
  sudo eunomia run opensnoop -o json    which files are opened, one JSON object a line
  sudo eunomia run ./my.bpf.o           any program built with libbpf
  sudo eunomia containers --watch       the containers that run, and what happens to them
  sudo eunomia tree                     the processes that run, and whose container they are in
  sudo eunomia list                     the trackers, and which of them this kernel can run
  eunomia info process                  what a tracker shows, field by field
  sudo eunomia doctor                   what is missing on this machine, and what to do

exit codes: 0 done, 1 failed, 2 wrong usage. EUNOMIA_DEBUG=1 shows all there is to an error.
"""


class Formatter(argparse.RawDescriptionHelpFormatter):
    """As wide as the terminal. argparse would import shutil to know, for each argument it declares: 12 ms."""

    def __init__(self, prog: str) -> None:
        """Take the program's name."""
        columns = os.environ.get("COLUMNS", "")
        try:
            width = int(columns) if columns.isdecimal() and len(columns) < 6 else os.get_terminal_size(1).columns
        except OSError:
            width = 0
        super().__init__(prog, max_help_position=30, width=max(width or 80, 40) - 2)


_MOST = 500  # characters of an error that repeats what was given


class Parser(argparse.ArgumentParser):
    """Says what is wrong in one line. ``asked`` is the command whose help tells more."""

    asked = ""

    def __init__(self, **options: Any) -> None:
        """Take what argparse takes."""
        # A new option must not change what a script means.
        super().__init__(**options | {"formatter_class": Formatter, "allow_abbrev": False})

    def error(self, message: str) -> NoReturn:
        """Leave with exit code 2."""
        from eunomia.cli.errors import say

        if len(message) > _MOST:
            message = f"{message[:_MOST]}..."
        say(f"{message} (see {self.asked or self.prog} --help)")
        raise SystemExit(2)


def parser(commands: Sequence[str] = COMMANDS) -> Parser:
    """Return the parser of all commands, or only of those named: the others' modules are not imported."""
    top = Parser(
        prog="eunomia",
        description="See what containers do on Linux, by eBPF.",
        epilog=EXAMPLES,
    )
    top.add_argument("--version", action="version", version=f"eunomia {__version__}")
    subparsers = top.add_subparsers(title="commands", metavar="COMMAND", dest="command", required=True, prog=top.prog)
    for name in commands:
        import_module(f"eunomia.cli.{name}").add(subparsers)
    if len(commands) == 1:
        top.asked = f"{top.prog} {commands[0]}"
    return top
