# SPDX-License-Identifier: BSD-2-Clause
"""``eunomia tree``: the running processes as a tree, with their users and containers."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable

from eunomia.cli import selectors
from eunomia.typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    import argparse

    from eunomia.cli.parser import Subparsers
    from eunomia.engine.process_tree import Entry
    from eunomia.identity import Identity
    from eunomia.process_identity import Process

EXAMPLES = """\
examples:
  sudo eunomia tree                       everything that runs, except kernel threads
  sudo eunomia tree --container web       what runs in a container
  sudo eunomia tree --namespace shop      what runs in the pods of a namespace
  sudo eunomia tree -o json               one JSON object a line, parents before their children
"""

_KTHREADD = 2  # the parent of kernel threads
_WIDEST_NAME = 24


class Drawing(NamedTuple):
    """The characters of the lines between processes."""

    more: str  # a child, others follow
    last: str
    past: str  # beside the children of such a child
    blank: str
    cut: str  # for levels that are not drawn


BOXES = Drawing("├─ ", "└─ ", "│  ", "   ", "…  ")
ASCII = Drawing("|- ", "`- ", "|  ", "   ", ".. ")


def add(subparsers: Subparsers) -> None:
    """Declare the command."""
    parser = subparsers.add_parser(
        "tree",
        help="show the processes that run, and their containers",
        description="Show the processes that run now as a tree, with their users and containers.",
        epilog=EXAMPLES,
    )
    parser.add_argument("-o", dest="format", choices=("table", "json"), default="table", help="format (table)")
    selectors.add(parser, host=False)
    parser.set_defaults(go=go)


def go(args: argparse.Namespace) -> int:
    """Print the tree; return 0, or 1 if containers were selected and no process runs in them."""
    from eunomia.cli.errors import need_proc, say_fault, say_without_cgroups
    from eunomia.containers.registry import Registry
    from eunomia.containers.selection import Selection
    from eunomia.engine.process_tree import placed, snapshot
    from eunomia.faults import Faults
    from eunomia.processes.users import Users

    wanted = selectors.given(args)
    selection = Selection(wanted) if any(wanted) else None
    need_proc()
    faults = Faults(say_fault)
    table = snapshot(Users(faults))
    registry = Registry(faults=faults)
    if selection is not None:
        registry.subscribe(selection)
    say_without_cgroups()
    registry.start()

    def identity_of(process: Process) -> Identity:
        return registry[process.cgroup_id] if process.cgroup_id else registry.by_pid(process.pid)

    known = [(p, identity_of(p)) for p in table if _KTHREADD not in {p.pid, p.ppid}]
    shown = [(p, i) for p, i in known if selection is None or selection.holds(i)]
    entries = list(placed(shown))
    if not entries and selection is not None:
        from eunomia.cli.errors import say

        say("no process runs in such a container")
        return 1
    if args.format == "json":
        for entry in entries:
            _write_json(entry)
    else:
        _write_tree(entries)
    return 0


def branch(entry: Entry, drawing: Drawing) -> str:
    """Return the lines before a process's command."""
    if not entry.lines:
        return ""
    before = "".join(drawing.past if more else drawing.blank for more in entry.lines[:-1])
    cut = drawing.cut if entry.depth > len(entry.lines) else ""
    return cut + before + (drawing.more if entry.lines[-1] else drawing.last)


def command(process: Process) -> str:
    """Return a process's command line in shell syntax; its name in brackets if it has none."""
    from shlex import join

    from eunomia.sinks.escape import escape

    argv = process.argv
    return escape(join(argv)) if any(argv) else f"[{escape(process.comm)}]"


def speaks_utf8() -> bool:
    """Whether the locale's characters are UTF-8."""
    named = next((v for n in ("LC_ALL", "LC_CTYPE", "LANG") if (v := os.environ.get(n))), "")
    return "utf8" in named.lower().replace("-", "")


def _write_tree(entries: list[Entry]) -> None:
    from eunomia.cli.page import BOLD, DIM, Page
    from eunomia.sinks.escape import escape
    from eunomia.sinks.layout import cut_to, measure

    page = Page()
    drawing = BOXES if speaks_utf8() else ASCII
    rows = [
        (
            str(e.process.pid),
            cut_to(escape(e.process.user or str(e.process.uid)), _WIDEST_NAME),
            cut_to(_name(e.identity), _WIDEST_NAME),
        )
        for e in entries
    ]
    headers = ("PID", "USER", "CONTAINER")
    pid, user, container = (max(map(measure, column)) for column in zip(headers, *rows, strict=True))
    room = page.width - pid - user - container - 3 if page.width else None
    fit: Callable[[str], str] = (lambda text: cut_to(text, max(room, 1))) if room is not None else str

    def write(cells: tuple[str, str, str], lines: str, text: str, style: str) -> None:
        names = f"{cells[1]}{' ' * (user - measure(cells[1]))} {cells[2]}{' ' * (container - measure(cells[2]))}"
        whole = fit(lines + text)
        drawn, said = whole[: len(lines)], whole[len(lines) :]
        head = f"{cells[0]:>{pid}} {names} "
        if page.width and measure(head) > page.width:
            head, drawn, said = cut_to(head, page.width), "", ""
        line = f"{page.styled(head, style)}{page.styled(drawn, style or DIM)}{page.styled(said, style)}"
        sys.stdout.write(line.rstrip() + "\n")

    write(headers, "", "COMMAND", BOLD)
    for cells, entry in zip(rows, entries, strict=True):
        write(cells, branch(entry, drawing), command(entry.process), "")


def _name(identity: Identity) -> str:
    from eunomia.sinks.escape import escape

    container = identity.container
    if container is None:
        return "-"
    name = container.name or container.id[:12]
    return escape(f"{identity.pod.name}/{name}" if identity.pod else name)


def _write_json(entry: Entry) -> None:
    from eunomia.cli.page import write_json

    process, container, pod = entry.process, entry.identity.container, entry.identity.pod
    whose: dict[str, Any] = {}
    if container is not None:
        whose["container"] = {n: getattr(container, n) for n in ("id", "name", "image", "runtime")}
    if pod is not None:
        whose["pod"] = {n: getattr(pod, n) for n in ("name", "namespace", "uid")}
    write_json(
        {
            "pid": process.pid,
            "ppid": process.ppid,
            "depth": entry.depth,
            "exec_id": process.exec_id,
            "parent_exec_id": process.parent_exec_id,
            "comm": process.comm,
            "exe": process.exe,
            "argv": process.argv,
            "uid": process.uid,
            "user": process.user or "",
            "tty": process.tty,
            "session": process.session,
            **whose,
            "identity": entry.identity.state,
        }
    )
