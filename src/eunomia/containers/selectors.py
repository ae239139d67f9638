# SPDX-License-Identifier: BSD-2-Clause
"""``--container``, ``--image``, ``--pod``, ``--namespace``, ``--label`` and ``--runtime``: what they match.

Patterns are a shell's: ``*``, ``?``, ``[a-z]``, upper and lower case told apart. Several words of one selector are
alternatives, save for labels, which must all hold; several selectors must all hold.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

from eunomia.identity import Container, Identity, Pod

_SHORTEST_ID = 4
_DIGITS = "0123456789abcdef"

Match = Callable[[Identity], bool]
_Text = Callable[[str], bool]


class Selectors(NamedTuple):
    """What is wanted; empty means all."""

    containers: tuple[str, ...] = ()
    images: tuple[str, ...] = ()
    pods: tuple[str, ...] = ()
    namespaces: tuple[str, ...] = ()
    labels: tuple[str, ...] = ()
    runtimes: tuple[str, ...] = ()

    def match(self) -> Match:
        """Return what tells whether an identity is wanted. Raises :class:`ValueError` for an empty word."""
        for name, words in zip(self._fields, self, strict=True):
            if not all(word.strip("/ ") for word in words):
                raise ValueError(f"--{name.removesuffix('s')}: it is empty")
        tests: list[Match] = []
        if self.containers:
            tests.append(_container(self.containers))
        if self.images:
            tests.append(_image(self.images))
        if self.pods:
            tests.append(_pod(self.pods))
        if self.namespaces:
            fits = _any(self.namespaces)
            tests.append(lambda i: i.pod is not None and fits(i.pod.namespace))
        tests += [_label(label) for label in self.labels]
        if self.runtimes:
            runtime = _any(self.runtimes)
            tests.append(lambda i: i.container is not None and runtime(i.container.runtime))
        if len(tests) == 1:
            return tests[0]
        return lambda identity: all(test(identity) for test in tests)


def _any(patterns: Iterable[str]) -> _Text:
    """Return what tells whether a text fits one of the patterns."""
    exact = frozenset(p for p in patterns if not set(p) & set("*?["))
    globs = [p for p in patterns if p not in exact]
    if not globs:
        return exact.__contains__
    import fnmatch
    import re

    either = re.compile("|".join(map(fnmatch.translate, globs))).match
    return lambda text: text in exact or either(text) is not None


def _container(words: Sequence[str]) -> Match:
    """Match names, ids, and at least four digits of an id's start, as Docker takes them."""
    fits = _any([word.removeprefix("/") for word in words])
    lowered = (word.lower() for word in words)
    prefixes = tuple(w for w in lowered if len(w) >= _SHORTEST_ID and not w.strip(_DIGITS)) or ("\0",)

    def match(identity: Identity) -> bool:
        container = identity.container
        if container is None:
            return False
        return fits(container.name) or fits(container.id) or container.id.startswith(prefixes)

    return match


def _image(words: Sequence[str]) -> Match:
    """Match an image as its user wrote it; the tag, and what comes before the last slash, may be left out."""
    fits = _any(words)

    def match(identity: Identity) -> bool:
        return identity.container is not None and any(map(fits, image_names(identity.container)))

    return match


def image_names(container: Container) -> list[str]:
    """Return the names under which an image may be asked for: whole, without tag, without registry and path."""
    whole = container.image
    if not whole:
        return [name for name in (container.image_id, container.image_digest) if name]
    names = [whole]
    last = whole.rpartition("/")[2]
    without_digest = whole.partition("@")[0]
    bare = without_digest
    if ":" in without_digest.rpartition("/")[2]:
        bare = without_digest.rpartition(":")[0]
    names += [without_digest, bare, last, last.partition("@")[0], bare.rpartition("/")[2]]
    for prefix in ("docker.io/library/", "docker.io/"):
        names += [name.removeprefix(prefix) for name in (whole, without_digest, bare)]
    return list(dict.fromkeys((*names, container.image_id, container.image_digest)))


def _pod(words: Sequence[str]) -> Match:
    """Match a pod's name, or namespace and name with a slash between them."""
    fits = _any(words)

    def match(identity: Identity) -> bool:
        pod = identity.pod
        return pod is not None and (fits(pod.name) or fits(f"{pod.namespace}/{pod.name}"))

    return match


def _label(word: str) -> Match:
    """Match ``key=value``, ``key!=value`` or ``key`` among the labels of the container and of its pod."""
    key, sign, pattern = word.partition("=")
    unequal = bool(sign) and key.endswith("!")
    key = key.removesuffix("!") if unequal else key
    if not key:
        raise ValueError(f"--label: {word!r} has no key; write it as in app=web, app!=web or app")
    fits = _any([pattern]) if sign else lambda _: True

    def match(identity: Identity) -> bool:
        if identity.container is None:
            return False
        return unequal != any(k == key and fits(value) for k, value in _labels(identity.container, identity.pod))

    return match


def _labels(container: Container, pod: Pod | None) -> Iterable[tuple[str, str]]:
    return container.labels if pod is None else (*container.labels, *pod.labels)
