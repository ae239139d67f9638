# SPDX-License-Identifier: BSD-2-Clause
"""Options of the Kubernetes API, which adds facts about this node's pods."""

from __future__ import annotations

from eunomia.cli.errors import UsageError, say
from eunomia.typing import TYPE_CHECKING

if TYPE_CHECKING:
    import argparse

    from eunomia.kubernetes.watcher import Watcher


def add(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    group = parser.add_argument_group("pods; metadata from the runtime needs none of these")
    group.add_argument(
        "--kubernetes", action="store_true",
        help="labels, owners and services from the API: in a pod by its service account, else by $KUBECONFIG",
    )  # fmt: skip
    group.add_argument("--kubeconfig", metavar="FILE", help="the same, with this kubeconfig")
    group.add_argument("--node", metavar="NAME", help="this node's name ($EUNOMIA_NODE, $NODE_NAME, the host's)")


def watcher(args: argparse.Namespace) -> Watcher | None:
    """Return a watcher of the API, not started yet; ``None`` unless asked for. Raises :class:`UsageError`."""
    if not (args.kubernetes or args.kubeconfig):
        if args.node:
            raise UsageError("--node: it names the node to ask for, so it needs --kubernetes or --kubeconfig")
        return None
    from eunomia.kubernetes.access import Access, Unusable
    from eunomia.kubernetes.watcher import Watcher, node_name, unlike_a_name

    node = node_name(args.node or "")
    if unlike_a_name(node):
        raise UsageError(f"{node!r} cannot be a node's name: give it with --node, or in $NODE_NAME")
    try:
        access = Access(args.kubeconfig or "")
    except Unusable as error:
        raise UsageError(f"{'--kubeconfig' if args.kubeconfig else '--kubernetes'}: {error}") from None
    return Watcher(access, node, say)
