# SPDX-License-Identifier: BSD-2-Clause
"""Completions for the shell: possible words at a position of the command line."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterable, Iterator

from eunomia.typing import TYPE_CHECKING, NoReturn

if TYPE_CHECKING:
    from eunomia.source import Source

Completer = Callable[..., Iterable[str]]


def answer(parser: argparse.ArgumentParser) -> NoReturn:
    """Print the completions for the shell, and exit."""
    import argcomplete

    for action in _actions(parser):
        completer = _COMPLETERS.get(action.dest)
        if completer is not None:
            action.completer = completer  # type: ignore[attr-defined]
    argcomplete.autocomplete(parser, always_complete_options=False)
    raise SystemExit(1)


def _actions(parser: argparse.ArgumentParser) -> Iterator[argparse.Action]:
    for action in parser._actions:
        yield action
        if isinstance(action, argparse._SubParsersAction):
            for below in action.choices.values():
                yield from _actions(below)


def _what(prefix: str, **_: object) -> Iterable[str]:
    from argcomplete.completers import FilesCompleter

    from eunomia import tracker

    names = [] if "/" in prefix else [found.name for found in tracker.every() if found.name.isprintable()]
    return [*names, *FilesCompleter(allowednames=("o",))(prefix)]


def _sources(args: argparse.Namespace) -> Iterator[Source]:
    """Open the sources on the command line that can be opened; without any, all trackers."""
    from eunomia import tracker
    from eunomia.source import is_in_registry, open_source

    given = getattr(args, "what", None) or tracker.built_in()
    for word in given:
        if is_in_registry(word):  # no registry is asked for a Tab
            continue
        try:
            source = open_source(word)
        except (OSError, ValueError, LookupError):
            continue
        yield source
        source.spec.close()


def _listed(prefix: str, words: Iterable[str]) -> list[str]:
    """Return words for the last element of a list by comma."""
    before, comma, _ = prefix.rpartition(",")
    taken = set(before.split(","))
    return [f"{before}{comma}{word}" for word in words if word not in taken]


def _columns(prefix: str, parsed_args: argparse.Namespace, **_: object) -> Iterable[str]:
    from eunomia.columns.column import VIRTUAL
    from eunomia.columns.joined import ACTOR, JOINED, OWNER, nouns, usual

    names: dict[str, None] = dict.fromkeys([*VIRTUAL, *usual()])
    for source in _sources(parsed_args):
        for stream in source.spec.streams.values():
            for schema in (stream.schema, *(stream.by_size or {}).values()):
                names.update(dict.fromkeys(schema.columns))
    return _listed(prefix, list(dict.fromkeys([*names, *nouns(OWNER), *nouns(ACTOR), *JOINED])))


def _streams(prefix: str, parsed_args: argparse.Namespace, **_: object) -> Iterable[str]:
    return _listed(prefix, [name for source in _sources(parsed_args) for name in source.spec.streams])


def _settings(parsed_args: argparse.Namespace, **_: object) -> Iterable[str]:
    from eunomia.kernel.settings import listed

    specs = [source.spec for source in _sources(parsed_args)]
    return [f"{s.name}=" for spec in specs for s in listed(spec.settings, spec.images)] + [
        f"{name}[" for spec in specs for name in spec.tables
    ]


def _sizes(parsed_args: argparse.Namespace, **_: object) -> Iterable[str]:
    return [f"{m.name}=" for source in _sources(parsed_args) for m in source.spec.maps.values() if not m.internal]


def _programs(parsed_args: argparse.Namespace, **_: object) -> Iterable[str]:
    return [f"{program.name}=" for source in _sources(parsed_args) for program in source.spec.programs]


def _buffers(parsed_args: argparse.Namespace, **_: object) -> Iterable[str]:
    return [
        f"{stream.name}="
        for source in _sources(parsed_args)
        for stream in source.spec.streams.values()
        if stream.kind in {"ring", "perf"}
    ]


def _of_containers(*columns: str) -> Completer:
    """Complete to the running containers' values of these columns, without those that a shell would interpret."""

    def complete(prefix: str, **_: object) -> Iterable[str]:
        from eunomia.columns.joined import joined
        from eunomia.containers.registry import Registry

        registry = Registry()
        registry.start()
        contained = [i for i in registry.values() if i.container is not None]
        words: set[str] = set()
        takes = [column.take for name in columns if (column := joined(name)) is not None]
        for value in (take(identity) for take in takes for identity in contained):
            words.update([f"{k}={v}" for k, v in value.items()] if isinstance(value, dict) else [value])
        return _listed(prefix, sorted(w for w in words if w and not w.strip(_HARMLESS)))

    return complete


_PATIENCE = 2.0  # seconds that a shell waits for a server
_HARMLESS = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_.-/:=@"


def _formats(prefix: str, **_: object) -> Iterable[str]:
    from eunomia.sinks import FORMATS

    kind, colon, file = prefix.partition(":")
    if not colon:
        return FORMATS
    from argcomplete.completers import FilesCompleter

    return [f"{kind}:{name}" for name in FilesCompleter()(file)]


def _trackers(prefix: str, parsed_args: argparse.Namespace, **_: object) -> Iterable[str]:
    """Complete to the trackers that run on the server that is asked for."""
    from eunomia.client import ApiProblem, Client, contexts

    try:
        context = contexts.find(getattr(parsed_args, "host", None) or "")
        token = contexts.token(context, getattr(parsed_args, "token_file", None) or "")
        found = Client(url=context.url, ca=context.ca, token=token, timeout=_PATIENCE).list()
    except (OSError, ValueError, ApiProblem):
        return ()
    return [one.id for one in found if one.state == "running"]


def _hosts(**_: object) -> Iterable[str]:
    from eunomia.client import contexts

    try:
        return contexts.names()
    except ValueError:
        return ()


def _objects(prefix: str, **_: object) -> Iterable[str]:
    from argcomplete.completers import FilesCompleter

    return FilesCompleter(allowednames=("o",))(prefix)


def _nothing(**_: object) -> Iterable[str]:
    return ()


_COMPLETERS: dict[str, Completer] = {
    "what": _what,
    "outputs": _formats,
    "columns": _columns,
    "add": _columns,
    "streams": _streams,
    "set": _settings,
    "map_size": _sizes,
    "attach": _programs,
    "event": _buffers,
    "container": _of_containers("container.name"),
    "image": _of_containers("container.image"),
    "pod": _of_containers("pod.name"),
    "namespace": _of_containers("pod.namespace"),
    "label": _of_containers("container.labels", "pod.labels"),
    "runtime": _of_containers("container.runtime"),
    "tracker": _trackers,
    "trackers": _trackers,
    "host": _hosts,
    "object": _objects,
    **dict.fromkeys(("id", "to", "trial"), _nothing),
    **dict.fromkeys(("rotate", "duration", "count", "interval", "ring_size", "pid", "uid", "comm"), _nothing),
}
