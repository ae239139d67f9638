# SPDX-License-Identifier: BSD-2-Clause
"""The command line: one module for each command, imported when it is used.

A command's module has ``add(subparsers)``, which declares its parser and sets ``go``, and ``go(args)``, which
returns the exit code. Users' mistakes are reported here, as one line on stderr.
"""

from __future__ import annotations

import gc
import os
import sys
from collections.abc import Sequence
from io import TextIOWrapper

from eunomia.typing import Any

COMMANDS = (
    *("run", "containers", "tree", "list", "info", "doctor", "server", "token", "audit", "completion"),
    *("start", "ps", "attach", "stop", "update", "rollback", "history", "logs"),
    *("build", "push", "pull", "sign", "verify"),
)

# Objects that may refer to others, made and still there, before garbage is looked for: a start makes some 20 000 that
# stay, and rows come and go by the thousand and refer to nothing that refers to them.
_GARBAGE = 100_000


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command, given as ``argv`` or else in ``sys.argv``; return its exit code."""
    # for numpy, on first use of a column: no threads that wait actively for work
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    words = sys.argv[1:] if argv is None else [*argv]  # `list` is a command here
    _check_standard_files()
    if "_ARGCOMPLETE" in os.environ:
        from eunomia.cli import complete
        from eunomia.cli.parser import parser

        complete.answer(parser())
    before = gc.get_threshold()
    gc.set_threshold(_GARBAGE, 10, 10)
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
    finally:
        gc.unfreeze()
        gc.set_threshold(*before)
    try:
        sys.stdout.flush()
    except OSError:
        # Python would try to write again at exit, and report an error.
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    return code


def _check_standard_files() -> None:
    """Open 0, 1 and 2 if they are closed, so that no probe gets these descriptors; allow any text to be written."""
    for descriptor in range(3):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDONLY)  # takes the lowest free descriptor; writing to it fails, which is reported
    if sys.stdout is None:
        sys.stdout = os.fdopen(1, "w", closefd=False)
    if sys.stderr is None:
        sys.stderr = open(os.devnull, "w")
    if isinstance(sys.stdout, TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")


def _run(words: list[str]) -> int:
    if not words:
        from eunomia.cli.parser import parser

        parser().print_help(sys.stderr)
        return 2
    if words[0] not in COMMANDS and not words[0].startswith("-"):
        from eunomia.cli.errors import no_such_command

        raise no_such_command(words[0], COMMANDS)
    chosen = words[:1] if words[0] in COMMANDS else COMMANDS
    try:
        args = _read(chosen, words)
    except SystemExit as leaving:  # after --help, --version, or a reported error
        return int(leaving.code or 0)
    return int(args.go(args))


def _read(chosen: Sequence[str], words: list[str]) -> Any:
    """Return a command's arguments; argparse, which takes 20 ms, reads only what is not plain."""
    if len(chosen) == 1:
        from eunomia.cli import plain

        args = plain.read(chosen[0], words[1:])
        if args is not None:
            return args
    from eunomia.cli.parser import parser

    return parser(chosen).parse_args(words)
