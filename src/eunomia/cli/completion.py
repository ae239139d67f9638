# SPDX-License-Identifier: BSD-2-Clause
"""``eunomia completion``: prints what makes a shell complete Eunomia's command line."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import argparse

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


def add(subparsers: Any) -> None:
    """Declare the command."""
    parser = subparsers.add_parser(
        "completion",
        help="print the completion for a shell",
        description="Print a script that lets a shell complete trackers, objects, options, columns and containers.",
        epilog=EXAMPLES,
    )
    parser.add_argument("shell", choices=SHELLS, metavar="|".join(SHELLS), help="the shell")
    parser.set_defaults(go=go)


def go(args: argparse.Namespace) -> int:
    """Print the script; return 0."""
    import argcomplete

    sys.stdout.write(argcomplete.shellcode(["eunomia"], shell=args.shell) + "\n")
    return 0
