# SPDX-License-Identifier: BSD-2-Clause
"""``eunomia completion``: prints a script with which a shell completes Eunomia's command line."""

from __future__ import annotations

import sys

from eunomia.typing import TYPE_CHECKING

if TYPE_CHECKING:
    import argparse

    from eunomia.cli.parser import Subparsers

SHELLS = ("bash", "zsh", "fish")

EXAMPLES = """\
in this shell only:
  bash, zsh   eval "$(eunomia completion bash)"
  fish        eunomia completion fish | source

in every shell from now on:
  bash        eunomia completion bash > ~/.local/share/bash-completion/completions/eunomia
  zsh         eunomia completion zsh > ~/.zfunc/_eunomia    (~/.zfunc in fpath, before compinit)
  fish        eunomia completion fish > ~/.config/fish/completions/eunomia.fish

after sudo, zsh and fish complete by themselves, bash with the package bash-completion.
"""


def add(subparsers: Subparsers) -> None:
    """Declare the command."""
    parser = subparsers.add_parser(
        "completion",
        help="print the completion for a shell",
        description="Print a script with which a shell completes trackers, objects, options and containers.",
        epilog=EXAMPLES,
    )
    parser.add_argument("shell", choices=SHELLS, metavar="|".join(SHELLS), help="the shell")
    parser.set_defaults(go=go)


def go(args: argparse.Namespace) -> int:
    """Print the script; return 0."""
    from argcomplete.shell_integration import shellcode

    sys.stdout.write(shellcode(["eunomia"], shell=args.shell) + "\n")
    return 0
