# SPDX-License-Identifier: BSD-2-Clause
"""Columns of a row's container, pod and process: the only list of them.

A new one is one entry here. Its value is taken from an :class:`~eunomia.identity.Identity` or a
:class:`~eunomia.process_identity.Process`, once for all rows that share it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from eunomia.columns.meanings import INTEGER, STRING, STRINGS
from eunomia.identity import HOST, PENDING, RESOLVED, Container, Identity, Mount, Pod
from eunomia.identity import UNKNOWN as NOBODY_SAID
from eunomia.meaning import rfc3339
from eunomia.process_identity import KNOWN, LOST, UNKNOWN, UNSURE, Process
from eunomia.typing import Any, NamedTuple

OWNER, ACTOR = "owner", "actor"

_MAP: dict[str, Any] = {"type": "object", "additionalProperties": {"type": "string"}}
_COUNT: dict[str, Any] = {"type": ["integer", "null"]}
_FLAG: dict[str, Any] = {"type": "boolean"}
_WIDTH = 14


class Joined(NamedTuple):
    """A column of the owner (identity) or the actor (process) of rows, with one value for all rows that share it.

    ``of`` says which. ``take`` gives its value: text, number, list, dictionary, None. ``json`` is the type in JSON
    Schema. ``usual`` ones are in every row by default. ``width`` is what a table's column begins
    with, 0 for text of any length. ``cell`` makes its text from the owner or actor, if that of the value does not fit.
    ``keyed`` values are dictionaries, of which each key is a column too: ``container.labels.app``.
    """

    name: str
    doc: str
    take: Callable[[Any], Any]
    of: str = OWNER
    json: dict[str, Any] = STRING
    usual: bool = False
    width: int = _WIDTH
    cell: Callable[[Any], str] | None = None
    keyed: bool = False
    is_path: bool = False

    @property
    def noun(self) -> str:
        """The part of its name before the dot."""
        return self.name.partition(".")[0]

    @property
    def member(self) -> str:
        """Its key in the JSON object of its noun."""
        return self.name.partition(".")[2]


_NOTHING: Mapping[str, tuple[Any, ...]] = {"container": Container(""), "pod": Pod("", "", "")}


def _member(name: str, doc: str, shown: Callable[[Any], Any] | None = None, **rest: Any) -> Joined:
    """Return a column for an attribute of an identity's container or pod, with its default."""
    noun, _, attribute = name.partition(".")
    made = shown or (lambda value: value)
    default = made(getattr(_NOTHING[noun], attribute))

    def take(identity: Identity) -> Any:
        thing = getattr(identity, noun)
        return default if thing is None else made(getattr(thing, attribute))

    return Joined(name, doc, take, **rest)


def _time(value: int) -> str:
    return rfc3339(value) if value else ""


def _list(value: tuple[str, ...] | None) -> list[str] | None:
    return None if value is None else list(value)


def _mounts(mounts: tuple[Mount, ...]) -> list[dict[str, Any]]:
    return [Mount._asdict(mount) for mount in mounts]


def _of_process(name: str, doc: str, **rest: Any) -> Joined:
    attribute = name.partition(".")[2]
    return Joined(name, doc, lambda process: getattr(process, attribute), of=ACTOR, **rest)


_ANCESTOR: dict[str, Any] = {
    "type": "object",
    "properties": {"pid": INTEGER, "comm": STRING, "argv": STRINGS, "exec_id": STRING},
}


def _lineage(process: Process) -> str:
    return "<-".join([above.comm for above in process.ancestors()])


_ALL = (
    _member("container.id", "the container's full id", usual=True, width=12),
    _member("container.name", "the container's name", usual=True),
    _member("container.image", "the image, as given by the user", usual=True),
    _member("container.runtime", "the container runtime", usual=True),
    _member("container.image_id", "the digest of the image's configuration"),
    _member("container.image_digest", "the digest of the image's manifest"),
    _member("container.labels", "labels", dict, json=_MAP, keyed=True),
    _member("container.annotations", "annotations", dict, json=_MAP, keyed=True),
    _member("container.command", "the command of the container", list, json=STRINGS),
    _member("container.user", "the user of the container"),
    _member("container.mounts", "the mounts", _mounts, json={"type": "array", "items": {"type": "object"}}),
    _member("container.privileged", "whether it is privileged", json={"type": ["boolean", "null"]}),
    _member(
        "container.capabilities", "the bounding set of capabilities", _list, json=STRINGS | {"type": ["array", "null"]}
    ),
    _member("container.seccomp", "the seccomp profile: unconfined for none, default for the runtime's"),
    _member("container.apparmor", "the AppArmor profile: unconfined for none, default for the runtime's"),
    _member("container.network", "the network mode, or the network's name"),
    _member("container.addresses", "its addresses", list, json=STRINGS),
    _member("container.pid", "the first process, as the host sees it", lambda pid: pid or None, json=_COUNT),
    _member("container.state", "created, running, paused or exited"),
    _member("container.created", "when it was created", _time),
    _member("container.started", "when it was started", _time),
    _member("container.restarts", "how often it was restarted", json=_COUNT),
    _member("container.sandbox", "whether it is a pod's sandbox container", json=_FLAG),
    Joined(
        "container.parents", "ids of the enclosing containers, outermost first",
        lambda identity: list(identity.parents), json=STRINGS,
    ),
    _member("pod.name", "the pod's name", usual=True),
    _member("pod.namespace", "the pod's namespace", usual=True),
    _member("pod.uid", "the pod's uid", usual=True),
    _member("pod.labels", "labels", dict, json=_MAP, keyed=True),
    _member("pod.annotations", "annotations", dict, json=_MAP, keyed=True),
    _member("pod.sandbox", "the id of the pod's sandbox container"),
    _member("pod.addresses", "its addresses", list, json=STRINGS),
    _member("pod.node", "the node that it runs on"),
    _member("pod.owner_kind", "the kind of its owner, as Deployment"),
    _member("pod.owner_name", "the name of its owner"),
    _member("pod.services", "the services that select it", list, json=STRINGS),
    _member("pod.qos", "its quality of service class"),
    Joined(
        "identity", "how far the row's container is known", lambda identity: identity.state, usual=True,
        json={"enum": [HOST, RESOLVED, PENDING, NOBODY_SAID]}, width=8,
    ),
    _of_process("process.state", "how far the process is known", json={"enum": [KNOWN, UNSURE, LOST, UNKNOWN]}),
    _of_process("process.exec_id", "unique name of the process: NODE:START:PID"),
    _of_process("process.parent_exec_id", "the process that forked it: NODE:START:PID"),
    _of_process("process.exe", "its executable, relative to its container's root", width=0, is_path=True),
    _of_process("process.argv", "its arguments", json=STRINGS, width=0),
    Joined("process.user", "its user's name", lambda process: process.user or "", ACTOR),
    _of_process("process.tty", "its controlling terminal, as pts/0"),
    _of_process(
        "process.session", "the process id of its session leader", json=INTEGER, width=7,
        cell=lambda process: str(process.session or ""),
    ),
    Joined(
        "process.ancestors", "the process that forked it, the one that forked that, and so on",
        lambda process: [above.brief() for above in process.ancestors()], ACTOR,
        json={"type": "array", "items": _ANCESTOR}, width=0, cell=_lineage,
    ),
)  # fmt: skip

JOINED: dict[str, Joined] = {column.name: column for column in _ALL}


def key_of(name: str) -> tuple[str, str] | None:
    """Return the column and the key of a name such as ``container.labels.app``; None for other names."""
    noun, _, rest = name.partition(".")
    member, dot, key = rest.partition(".")
    column = JOINED.get(f"{noun}.{member}") if dot and key else None
    return (column.name, key) if column is not None and column.keyed else None


def joined(name: str) -> Joined | None:
    """Return the column of this name, also if it is a key of another column; None if there is none."""
    column = JOINED.get(name)
    keyed = key_of(name) if column is None else None
    if keyed is None:
        return column
    whole, key = JOINED[keyed[0]], keyed[1]
    return Joined(name, f"one of {whole.name}", lambda thing: whole.take(thing).get(key, ""), whole.of)


def is_of(of: str, name: str) -> bool:
    """Whether a column, or a name of several columns, is of ``of``: owners or actors."""
    column = joined(name)
    return column.of == of if column is not None else any(c.of == of for c in members(name))


def members(name: str) -> tuple[Joined, ...]:
    """Return the columns of ``container`` (the usual ones) or ``container.*`` (all); empty for other names.

    A noun without usual columns stands for all.
    """
    noun = name.removesuffix(".*")
    every = tuple(c for c in JOINED.values() if c.noun == noun and c.member)
    usual = tuple(c for c in every if c.usual)
    return usual if usual and noun == name else every


def nouns(of: str) -> tuple[str, ...]:
    """Return the nouns of owners (container and pod) or actors (process)."""
    return tuple(dict.fromkeys(c.noun for c in JOINED.values() if c.of == of and c.member))


def usual() -> tuple[str, ...]:
    """Return the columns that every row has by default."""
    return tuple(c.name for c in JOINED.values() if c.usual)
