# SPDX-License-Identifier: BSD-2-Clause
"""Options that select containers, for all commands that have them."""

from __future__ import annotations

from eunomia.cli.errors import UsageError
from eunomia.cli.words import words
from eunomia.containers.selectors import Selectors
from eunomia.typing import TYPE_CHECKING

if TYPE_CHECKING:
    import argparse

# option, what it takes, what it matches
_OPTIONS = (
    ("container", "NAME|ID", "names, ids, or the start of an id"),
    ("image", "IMAGE", "images, with or without tag and registry"),
    ("pod", "[NAMESPACE/]POD", "pods"),
    ("namespace", "NAMESPACE", "Kubernetes namespaces"),
    ("label", "KEY[=VALUE]", "labels of containers and pods, all of them; also KEY!=VALUE"),
    ("runtime", "RUNTIME", "docker, containerd, podman, crio, lxc"),
)


def add(parser: argparse.ArgumentParser, *, host: bool = True) -> None:
    """Declare the options; ``host`` adds --containers-only and --host-only."""
    group = parser.add_argument_group(
        "only these containers, also ones that start later; patterns as in 'web*', several values by comma"
    )
    for name, metavar, text in _OPTIONS:
        group.add_argument(f"--{name}", action="append", default=[], metavar=metavar, help=text)
    if host:
        group.add_argument("--containers-only", action="store_true", help="nothing of the host")
        group.add_argument("--host-only", action="store_true", help="nothing of any container")


def given(args: argparse.Namespace) -> Selectors:
    """Return the selectors; raises :class:`UsageError`."""
    selectors = Selectors(*(tuple(words(getattr(args, name))) for name, _, _ in _OPTIONS))
    try:
        selectors.match()
    except ValueError as error:
        raise UsageError(str(error)) from None
    return selectors
