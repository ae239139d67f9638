# SPDX-License-Identifier: BSD-2-Clause
"""The processes that run now, as a tree."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from eunomia.typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from eunomia.identity import Identity
    from eunomia.process_identity import Process
    from eunomia.processes.process_table import ProcessTable

_DEEPEST = 48  # levels that are drawn


class Entry(NamedTuple):
    """A process in the tree; ``lines`` says for each level above whether more processes of it follow."""

    process: Process
    identity: Identity
    lines: tuple[bool, ...]
    depth: int


def snapshot(users: Any = None) -> ProcessTable:
    """Return the processes that run now; raises the errors of loading a probe."""
    from eunomia.containers import cgroup_files
    from eunomia.kernel.loaded import Loaded
    from eunomia.kernel.spec import Spec
    from eunomia.processes import OBJECT
    from eunomia.processes.process_table import ProcessTable
    from eunomia.processes.running_processes import batch_of

    spec = Spec.open(OBJECT, quick=True)
    with Loaded.attached(spec, programs=("found",), set_=cgroup_files.current().constants()) as live:
        table = ProcessTable(users)
        table.fill(batch_of(spec.streams["life"].schema, live.iterate("found")))
    if users is not None:
        for process in table:
            process.user = users.name(process)
    return table


def placed(processes: Iterable[tuple[Process, Identity]]) -> Iterator[Entry]:
    """Yield processes in tree order: each before its children, children by their start."""
    identities = dict(processes)
    below: dict[Process | None, list[Process]] = {}
    for process in sorted(identities, key=lambda p: (p.start, p.pid), reverse=True):
        parent = process.parent if process.parent in identities else None
        below.setdefault(parent, []).append(process)
    todo: list[tuple[Process, tuple[bool, ...], int]] = [(p, (), 0) for p in below.get(None, ())]
    while todo:
        process, lines, depth = todo.pop()
        yield Entry(process, identities[process], lines, depth)
        children = below.get(process, ())  # the last one first
        for at, child in enumerate(children):
            todo.append((child, (*lines, at > 0)[-_DEEPEST:], depth + 1))
