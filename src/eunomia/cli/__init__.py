# SPDX-License-Identifier: BSD-2-Clause
"""The command line: one module a command, imported when it is chosen.

A command's module has ``add(subparsers)``, which declares its parser and sets ``go``, and ``go(args)``, which
returns the exit code. What a user can get wrong ends here, as one line on stderr.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from importlib import import_module
from io import TextIOWrapper
from eunomia.typing import Any, NoReturn, TypeAlias

from eunomia import __version__

Subparsers: TypeAlias = "argparse._SubParsersAction[argparse.ArgumentParser]"

COMMANDS = ("run", "containers", "tree", "list", "info", "doctor", "completion")

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
    subparsers = top.add_subparsers(
        title="commands", metavar="COMMAND", dest="command", required=True, prog=top.prog
    )
    for name in commands:
        import_module(f"eunomia.cli.{name}").add(subparsers)
    if len(commands) == 1:
        top.asked = f"{top.prog} {commands[0]}"
    return top


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command, given as ``argv`` or else in ``sys.argv``; return its exit code."""
    # numpy, when a column is first asked for: no threads that spin for work which there is none of
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    words = sys.argv[1:] if argv is None else [*argv]  # `list` is a command here
    _check_standard_files()
    if "_ARGCOMPLETE" in os.environ:
        from eunomia.cli import complete

        complete.answer(parser())
    try:
        code = _run(words)
        sys.stdout.flush()
    except BrokenPipeError:
        code = 0
    except KeyboardInterrupt:
        code = 130
    except Exception as error:
        from eunomia.cli.errors import failed

        code = failed(error)
    try:
        sys.stdout.flush()
    except OSError:
        # Python would try once more on its way out, and complain.
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    return code


def _check_standard_files() -> None:
    """Keep 0, 1 and 2 from becoming a probe's descriptors where they are closed; let any text be written."""
    for descriptor in range(3):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDONLY)  # the lowest free one is taken; writing to it fails, and is said
    if sys.stdout is None:
        sys.stdout = os.fdopen(1, "w", closefd=False)
    if sys.stderr is None:
        sys.stderr = open(os.devnull, "w")
    if isinstance(sys.stdout, TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")


def _run(words: list[str]) -> int:
    if not words:
        parser().print_help(sys.stderr)
        return 2
    if words[0] not in COMMANDS and not words[0].startswith("-"):
        from eunomia.cli.errors import no_such_command

        raise no_such_command(words[0], COMMANDS)
    chosen = words[:1] if words[0] in COMMANDS else COMMANDS
    try:
        args = parser(chosen).parse_args(words)
    except SystemExit as leaving:  # after --help, --version, or an error that was said
        return int(leaving.code or 0)
    return int(args.go(args))
