# SPDX-License-Identifier: BSD-2-Clause
"""Selectors of containers: ``--container``, ``--image``, ``--pod``, ``--namespace``, ``--label``, ``--runtime``.

Patterns are shell patterns: ``*``, ``?``, ``[a-z]``; case matters. The values of one selector are alternatives, except
for labels, which must all match; all selectors must match.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from eunomia.identity import Container, Identity, Pod
from eunomia.typing import NamedTuple

_RUNTIMES = {"crio": "cri-o"}  # other names of the same
_SHORTEST_ID = 4
_DIGITS = "0123456789abcdef"

Match = Callable[[Identity], bool]
_Text = Callable[[str], bool]


class Selectors(NamedTuple):
    """The values of each selector; empty means all."""

    containers: tuple[str, ...] = ()
    images: tuple[str, ...] = ()
    pods: tuple[str, ...] = ()
    namespaces: tuple[str, ...] = ()
    labels: tuple[str, ...] = ()
    runtimes: tuple[str, ...] = ()

    def match(self) -> Match:
        """Return a predicate on identities. Raises :class:`ValueError` for an empty value."""
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
            runtime = _any([_RUNTIMES.get(name, name) for name in self.runtimes])
            tests.append(lambda i: i.container is not None and runtime(i.container.runtime))
        if len(tests) == 1:
            return tests[0]
        return lambda identity: all(test(identity) for test in tests)


def _any(patterns: Sequence[str]) -> _Text:
    """Return a predicate on texts that match one of the patterns."""
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
    """Match the names of an image (:func:`image_names`), and at least four digits of its id's or digest's start."""
    fits = _any(words)
    starts = (word.lower().removeprefix("sha256:") for word in words)
    prefixes = tuple(f"sha256:{s}" for s in starts if len(s) >= _SHORTEST_ID and not s.strip(_DIGITS)) or ("\0",)

    def match(identity: Identity) -> bool:
        container = identity.container
        if container is None:
            return False
        by_id = container.image_id.startswith(prefixes) or container.image_digest.startswith(prefixes)
        return by_id or any(map(fits, image_names(container)))

    return match


def image_names(container: Container) -> list[str]:
    """Return the names by which an image can be selected: with and without registry, path, tag and digest.

    The defaults are Docker's registry, its ``library`` and the tag ``latest``.
    """
    whole = container.image
    ids = [name for name in (container.image_id, container.image_digest) if name]
    if not whole or whole.startswith("sha256:"):
        return [name for name in dict.fromkeys((whole, *ids)) if name]
    without_digest, _, digest = whole.partition("@")
    repository, tag = without_digest, ""
    if ":" in without_digest.rpartition("/")[2]:
        repository, _, tag = without_digest.rpartition(":")
    registry, slash, path = repository.partition("/")
    if slash and not (set(".:") & set(registry) or registry == "localhost"):
        registry, path = "docker.io", repository
    elif not slash:
        registry, path = "docker.io", f"library/{repository}"
    parts = [registry, *path.split("/")]
    repositories = ["/".join(parts[i:]) for i in range(len(parts))]
    if parts[:2] == ["docker.io", "library"]:
        repositories.append("/".join(("docker.io", *parts[2:])))
    behind = {"", f":{tag}" if tag else "" if digest else ":latest"}
    behind |= {f"@{known}" for known in (digest, container.image_digest) if known}
    names = (r + end for r in repositories for end in sorted(behind))
    return list(dict.fromkeys((whole, without_digest, *names, *ids)))


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
