# SPDX-License-Identifier: BSD-2-Clause
"""The options that say which server a command talks to, and how its errors are told."""

from __future__ import annotations

from eunomia.cli.errors import UsageError
from eunomia.typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import argparse

    from eunomia.client import ApiProblem, Client

# The options that the fields of requests come from.
_OPTIONS = {
    "settings": "--set", "filters.pids": "--pid", "filters.comms": "--comm", "filters.uids": "--uid", "outputs": "-o",
    "streams": "--streams", "coalesce": "--coalesce", "duration": "--duration", "map_sizes": "--map-size",
    "add": "--add", "attach": "--attach", "programs": "--program", "events": "--event", "ring_size": "--ring-size",
    "id": "--id", "trial": "--trial", "generation": "--to",
}  # fmt: skip


def add(parser: Any) -> None:
    """Declare the options."""
    group = parser.add_argument_group("which server")
    group.add_argument(
        "--host", metavar="NAME|URL",
        help="a context of ~/.config/eunomia/config.toml, or https://HOST:PORT, or unix:/PATH; else the file's "
        "default, or /run/eunomia/eunomia.sock",
    )  # fmt: skip
    group.add_argument(
        "--token-file", metavar="FILE", help="a file with the token; else $EUNOMIA_TOKEN, or the context's"
    )


def client(args: argparse.Namespace) -> Client:
    """Return a client of the server that is asked for; raises :class:`UsageError`."""
    from eunomia.client import Client, contexts

    try:
        context = contexts.find(args.host or "")
        token = contexts.token(context, args.token_file or "")
        return Client(url=context.url, ca=context.ca, token=token)
    except ValueError as error:
        raise UsageError(str(error)) from None


def is_here(client: Client) -> bool:
    """Whether the server is on this machine, and sees the same files."""
    return bool(client.place.path)


def told(problem: ApiProblem) -> str:
    """Return an error of the server's as a sentence that names the option."""
    field = problem.field
    top = field.partition(".")[0].partition("[")[0]
    option = _OPTIONS.get(field.partition("[")[0]) or _OPTIONS.get(top, "")
    if problem.status in {401, 403}:
        return f"{problem.detail}: a token comes from --token-file, $EUNOMIA_TOKEN or a context"
    return f"{option}: {problem.detail}" if option and not problem.detail.startswith(option) else problem.detail
