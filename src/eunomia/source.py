# SPDX-License-Identifier: BSD-2-Clause
"""Opens sources by name: trackers, object files, and trackers in a registry."""

from __future__ import annotations

import os
import stat
from collections.abc import Mapping

from eunomia import tracker
from eunomia.kernel.errors import BadObject
from eunomia.kernel.loaded import Loaded, load_first
from eunomia.kernel.spec import Spec, name_of
from eunomia.typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from eunomia.kernel.foreign.choice import Wish
    from eunomia.oci.settings import Settings

_REGISTRY = "oci://"


class NoSuchTracker(LookupError):
    """Neither a tracker nor a file; the message lists the trackers."""


class Options(NamedTuple):
    """How a source is loaded: its settings, the sizes of its maps, and which programs run.

    ``streams`` are those that will be read, all if none is named. ``ring_size`` is in bytes, a power of two.
    ``coalesce`` is the window in ns in which equal events are counted, for streams that support it; 0 for none.
    """

    settings: Mapping[str, object] = {}
    map_sizes: Mapping[str, int] = {}
    wish: Wish | None = None
    streams: tuple[str, ...] = ()
    ring_size: int | None = None
    coalesce: int = 0


class Source:
    """A named spec with its tracker; ``found`` is None for a foreign object.

    ``origin`` says where it was pulled from and who signed it, if it is from a registry.
    """

    def __init__(
        self, name: str, spec: Spec, found: tracker.FoundTracker | None = None, origin: str = ""
    ) -> None:
        self.name = name
        self.spec = spec
        self.found = found
        self.origin = origin
        self.variant = ""
        self.left_out: list[str] = []  # notes on programs that do not run, set when it is loaded

    def columns(self, stream: str) -> tuple[str, ...]:
        """Return the columns that a table shows of a stream by default; empty for all that are not hidden."""
        return tuple(self.found.tracker.columns.get(stream, ())) if self.found else ()

    @property
    def whole(self) -> bool:
        """Whether rows show all columns of a container, if the format has room for them."""
        return self.found is not None and self.found.tracker.whole

    def load(self, wish: Wish | None = None, **options: Any) -> Loaded:
        """Load and attach it, with the best variant that this kernel supports; options as for :class:`Loaded`.

        Of a foreign object it runs the programs that ``wish`` selects and this kernel supports.
        """
        if self.found is None:
            from eunomia.kernel.foreign import choice

            wish = wish or choice.Wish()
            chosen, live = choice.load(self.spec, wish, **options)
            self.left_out = choice.sentences(self.spec, chosen, wish.targets)
            return live
        if wish is not None:
            options["targets"] = wish.targets
        known = self.found.tracker
        self.variant, live = load_first(self.spec, known.variants, known.always, **options)
        return live


def is_in_registry(word: str) -> bool:
    """Whether a word names a tracker in a registry."""
    return word.startswith(_REGISTRY)


def open_source(
    word: str, events: Mapping[str, str] | None = None, registries: Settings | None = None
) -> Source:
    """Return the source of a name: a path, if it has a slash or ends in ``.o``, else a tracker.

    What begins with ``oci://`` is pulled, as ``registries`` say, or else /etc/eunomia/oci.toml.
    Raises :class:`NoSuchTracker`, :class:`BadObject` or :class:`~eunomia.oci.errors.DistributionError`.
    """
    if is_in_registry(word):
        return _pull(word, events, registries)
    if "/" in word or word.endswith(".o"):
        shown = word if word.isprintable() else repr(word)
        if os.path.isdir(word):
            raise BadObject(f"{shown}: it is a directory, not a BPF object")
        try:
            spec = _open_foreign(word, events)
        except OSError as error:
            raise BadObject(f"{shown}: {error.strerror or error}") from None
        except BadObject as error:
            raise BadObject(f"{shown}: {str(error).removeprefix(f'{name_of(word)}: ')}") from None
        return Source(spec.name, spec)
    found = tracker.find(word)
    if found is None:
        raise NoSuchTracker(_no_such(word))
    if found.broken:
        raise BadObject(f"tracker {word}: {found.broken}")
    spec = Spec.open(found.object, events, quick=found.quick, derived=found.tracker.derived)
    return Source(word, spec, found)


LARGEST = 64 << 20  # bytes of an object's file; those of libbpf-tools have some hundred thousand

_KINDS = {stat.S_IFCHR: "a device", stat.S_IFBLK: "a device", stat.S_IFIFO: "a pipe", stat.S_IFSOCK: "a socket"}


def _read(path: str) -> bytes:
    """Return a file's bytes; refuse files that may never end or are too large."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)  # a pipe may have no writer
    with open(descriptor, "rb") as file:
        mode = os.fstat(descriptor).st_mode
        if not stat.S_ISREG(mode):
            raise BadObject(f"it is {_KINDS.get(stat.S_IFMT(mode), 'no regular file')}, not a BPF object")
        data = file.read(LARGEST + 1)
    if len(data) > LARGEST:
        raise BadObject(f"it has more than {LARGEST >> 20} MiB, which no BPF object has")
    return data


def _open_foreign(path: str, events: Mapping[str, str] | None) -> Spec:
    from eunomia.kernel import elf
    from eunomia.kernel.foreign import open_in_child

    data = _read(path)
    elf.check(data, name_of(path))
    if not open_in_child.survives_opening(data):
        raise BadObject("it is broken: libbpf crashes on it, or does not finish reading it")
    return Spec(data, name_of(path), events)


def _pull(word: str, events: Mapping[str, str] | None, registries: Settings | None) -> Source:
    from eunomia.kernel.foreign import sandbox
    from eunomia.oci import fetch, reference, settings

    pulled = fetch.fetch(reference.parse(word), registries or settings.read())
    name, declared = pulled.config.name, pulled.config.tracker
    try:
        sandbox.inspect(pulled.object, name, events)  # by a process without rights, before this one reads it
        spec = Spec(pulled.object, name, events)
    except BadObject as error:
        raise BadObject(f"{pulled.reference}: {str(error).removeprefix(f'{name}: ')}") from None
    found = None
    if declared is not None:
        known = {program.name for program in spec.programs}
        variants = tuple(tracker.Variant(v.name, tuple(v.programs)) for v in declared.variants)
        missing = {name for v in variants for name in v.programs} | {*declared.always}
        if missing := missing - known:
            spec.close()
            names = ", ".join(sorted(missing))
            raise BadObject(f"{pulled.reference}: it declares programs that it does not have: {names}")
        columns = {stream: tuple(names) for stream, names in declared.columns.items()}
        declaration = tracker.Tracker(declared.title, variants, tuple(declared.always), columns, whole=declared.whole)
        found = tracker.FoundTracker(name, declaration, "")
    return Source(name, spec, found, f"{pulled.reference}, {pulled.decision.why}")


def _no_such(word: str) -> str:
    import difflib

    names = [found.name for found in tracker.every()]
    close = difflib.get_close_matches(word, names, 1)
    hint = f"did you mean {close[0]}?" if close else f"there are {', '.join(names)}"
    file = f"; for the object in this directory write ./{word}" if os.path.isfile(word) else ""
    return f"there is no tracker '{word}': {hint}{file}"
