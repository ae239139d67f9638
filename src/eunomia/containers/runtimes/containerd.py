# SPDX-License-Identifier: BSD-2-Clause
"""containerd: containers of ``ctr``, of nerdctl, and of Kubernetes through CRI.

A container's bundle, ``<state>/io.containerd.runtime.v2.task/<namespace>/<id>/config.json``, is written before
its cgroup is made; its image, labels and its pod's are in containerd's database (:mod:`..containerd_db`) by then.
The bundle is removed when the container has ended, the record when the container is removed: it is read if the bundle
is gone.
State directories are those of every running containerd, those of running shims (a shim outlives its daemon), and the
usual ones. Docker's containers, in the namespace ``moby``, are left to Docker.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence

from eunomia.containers import early, kubepods, oci
from eunomia.containers.containerd_cgroups import RequestedCgroups
from eunomia.containers.containerd_db import ContainerRecords, Database, Status
from eunomia.containers.daemons import (
    Daemon,
    DataRoot,
    birth,
    daemon_of,
    host_bases,
    option,
    pids,
    trusted_first,
)  # fmt: skip
from eunomia.containers.paths import is_id
from eunomia.containers.runtime import Metadata, bounded, texts, words
from eunomia.containers.tolerant_json import object_of
from eunomia.identity import CREATED, EXITED, RUNNING, Container, Pod
from eunomia.kernel_clock import monotonic_ns
from eunomia.typing import NamedTuple

SEARCH_PAUSE = 20_000_000  # ns between two searches for state directories; one costs about a millisecond
TASKS = "io.containerd.runtime.v2.task"
DEFAULT_CONFIG = "/etc/containerd/config.toml"
DEFAULT_STATE = "/run/containerd"
# Those of daemons that may not run now: the usual one, k3s, MicroK8s.
STATES = (DEFAULT_STATE, "/run/k3s/containerd", "/var/snap/microk8s/common/run/containerd")
DEFAULT_ROOT = "/var/lib/containerd"
ROOTS = {
    "/run/k3s/containerd": "/var/lib/rancher/k3s/agent/containerd",
    "/var/snap/microk8s/common/run/containerd": "/var/snap/microk8s/common/var/lib/containerd",
}
DOCKERS = ("moby", "plugins.moby")
KUBERNETES = "k8s.io"

_SCOPES = ("cri-containerd-", "nerdctl-")
_OTHERS = ("docker-", "libpod-", "crio-", "lxc.")
_UNITS = (".service", ".scope", ".slice", ".mount", ".socket", ".swap")
_NAME_LIMIT = 76  # characters of a namespace or an id (containerd: identifiers.Validate)
_NAMESPACES = 256
_IMPORTS = 64  # files that a config.toml imports
_SMALL = 65536  # bytes of config.toml, of a status, of a pid
_ANNOTATION = "io.kubernetes.cri."
_POD_LABELS = "io.kubernetes.pod."
_STAMPS = 4096


class _Place(NamedTuple):
    """The place of a container's bundle."""

    state: DataRoot
    namespace: str
    id: str

    @property
    def directory(self) -> str:
        """The bundle, as the daemon sees it."""
        return f"{self.state.path}/{TASKS}/{self.namespace}/{self.id}"

    def exists(self) -> bool:
        return os.path.lexists(self.state.shown(f"{self.directory}/config.json"))

    def was_prefetched(self) -> bool:
        """Whether it was read when the container's cgroup was made."""
        return self.state.is_ours and early.kept(f"{self.directory}/config.json") is not None


class Containerd:
    """Reads bundles, and containerd's database, of every containerd on the machine."""

    name = "containerd"
    quick = True

    def __init__(
        self,
        states: Sequence[DataRoot] | None = None,
        clock: Callable[[], int] = monotonic_ns,
        roots: Mapping[DataRoot, str] | None = None,
    ) -> None:
        """``states`` replaces the search for state directories; ``clock`` gives monotonic nanoseconds.

        ``roots`` has the root directories of their daemons, as far as they are known.
        """
        self._clock = clock
        self._search = states is None
        self._searched: int | None = None
        self._states = list(states or ())
        self._by_process: dict[tuple[str, bytes], tuple[str, DataRoot, str] | None] = {}
        self._roots: dict[DataRoot, str] = dict(roots or {})  # by state directory
        self._namespaces: dict[DataRoot, tuple[int, list[str]]] = {}
        self._databases: dict[DataRoot, Database] = {}
        self._groups: dict[tuple[DataRoot, str], RequestedCgroups] = {}
        self._stamps: dict[tuple[str, str], int] = {}  # when containerd last changed the record that was read

    # What the registry calls

    def recognises(self, parent: str, name: str) -> str:
        """Return the id in ``cri-containerd-ID.scope``, in ``...:cri-containerd:ID``, and in ``NAMESPACE/ID``.

        The last may be any name, so it counts only if there is a bundle with these names. A cgroup that a bundle
        requests (``ctr run --cgroup``) counts, too.
        """
        if name.endswith(".scope") and name.startswith(_SCOPES):
            container_id = name[:-6].rpartition("-")[2]
            return container_id if is_id(container_id) else ""
        if is_id(name[-64:]):
            return name[-64:] if name[:-64].endswith(":cri-containerd:") else ""
        known = self._called(parent, name) or (self._look_again() and self._called(parent, name))
        return known or (name if _may_be(parent, name) and self._has_record(parent, name) else "")

    def lookup(self, container_id: str, path: str) -> Metadata | None:
        """Return the metadata in bundle and database; see :class:`Runtime`."""
        if path.rpartition("/")[2].startswith(_OTHERS):
            return None
        found = self._find(container_id, path)
        if found is None and not self._is_dockers(container_id) and self._look_again():
            found = self._find(container_id, path)
        return found

    def watches(self, container: Container, path: str) -> list[str]:
        """Return the bundle, in which the first process's id is written last, and the database.

        The database is watched for containers that users make, because their labels may change. Those of the kubelet do
        not change, and a node's database is written to all the time.
        """
        if container.runtime != self.name:
            return []
        # a cgroup without the container's id in its name may be another container's later
        others = [] if not path or container.id in path.rpartition("/")[2] else self._bundles_to_come()
        at = self._place(container.id, path)
        if at is None:
            return others
        bundle = at.state.shown(at.directory)
        return [bundle] if at.namespace == KUBERNETES else [bundle, self._database(at).shown, *others]

    def _bundles_to_come(self) -> list[str]:
        """Return the directories of bundles that may request a cgroup, and bundles whose file is missing yet."""
        return [
            groups.state.shown(directory)
            for groups in list(self._groups.values())
            for directory in (groups.directory, *groups.unread)
        ]

    def changed(self, container: Container, path: str) -> bool:
        """Whether the first process was started, or containerd has changed the container (``ctr c label``)."""
        at = self._place(container.id, path) if container.runtime == self.name else None
        if at is None:
            return False
        if container.state == CREATED and os.path.lexists(at.state.shown(f"{at.directory}/init.pid")):
            return True
        before = None if at.namespace == KUBERNETES else self._stamps.get((at.namespace, at.id))
        return before is not None and self._database(at).updates(at.namespace).get(at.id, before) != before

    def prefetched(self) -> list[str]:
        """Return the bundle paths of new containers, of daemons that are trusted for the machine."""
        if self._search and self._searched is None:
            self.search()
        return [
            f"{state.path}/{TASKS}/{namespace}/{{}}/config.json"
            for state in self._states
            if state.is_ours
            for namespace in dict.fromkeys((KUBERNETES, *self._listed(state)))
        ]

    @property
    def states(self) -> Sequence[DataRoot]:
        """The state directories known so far, the trusted first."""
        return self._states

    def search(self) -> None:
        """Look for state directories now."""
        began = self._clock()
        self._states = trusted_first(s for s in self._found_states() if os.path.isdir(s.shown(f"{s.path}/{TASKS}")))
        for gone in [s for s in list(self._databases) if s.pid and birth(s.pid) != s.birth]:
            del self._databases[gone]
            self._namespaces.pop(gone, None)
        self._searched = began

    def _look_again(self) -> bool:
        if not self._search:
            return False
        if self._searched is not None and self._clock() - self._searched < SEARCH_PAUSE:
            return False
        before = self._states
        self.search()
        return self._states != before

    # Search for state directories

    def _found_states(self) -> Iterator[DataRoot]:
        for base in host_bases():
            yield from (DataRoot(base, path) for path in STATES)
            yield DataRoot(base, _configured(Daemon(base), DEFAULT_CONFIG) or DEFAULT_STATE)
        seen = set()
        known, self._by_process = self._by_process, {}
        for comm, places_of in ((b"containerd", _daemons_places), (b"containerd-shim", _shims_places)):
            for pid in pids(comm):
                process = (pid, birth(int(pid)))
                if process not in known:
                    daemon = daemon_of(pid)
                    path, root = places_of(daemon) if daemon else ("", "")
                    known[process] = (daemon.view, daemon.data_root(path), root) if daemon and path else None
                place = self._by_process[process] = known[process]
                # Behind another root, each process has a path of its own to the same files.
                if place is not None and (view := (place[0], place[1].path, place[1].below)) not in seen:
                    seen.add(view)
                    if place[2]:
                        self._roots[place[1]] = place[2]
                    yield place[1]

    # Search for a container's bundle

    def _has_bundle(self, namespace: str, container_id: str) -> bool:
        """Whether a daemon that is trusted for the whole machine has such a container."""
        places = [_Place(s, namespace, container_id) for s in self._states if s.below == "/"]
        return any(place.exists() or place.was_prefetched() for place in places)

    def _called(self, parent: str, name: str) -> str:
        """Return the id of the container whose bundle requests such a cgroup, or has these names."""
        if asked := next((place.id for place, _ in self._grouped(parent, name)), ""):
            return asked
        return name if _may_be(parent, name) and self._has_bundle(parent, name) else ""

    def _grouped(self, parent: str, name: str) -> list[tuple[_Place, str]]:
        """Return the bundles that request a cgroup of this name in one called ``parent``, and the paths they request.

        Kubernetes is left out: its cgroups are named after containers.
        """
        found = []
        for state in self._states:
            for namespace in self._listed(state) if state.below == "/" else ():
                if namespace != KUBERNETES:
                    groups = self._groups.get((state, namespace))
                    if groups is None:
                        groups = RequestedCgroups(state, f"{state.path}/{TASKS}/{namespace}")
                        self._groups[state, namespace] = groups
                    found += [(_Place(state, namespace, i), group) for i, group in groups.requested(parent, name)]
        return found

    def _has_record(self, namespace: str, container_id: str) -> bool:
        """Whether such a daemon has a record of a container whose bundle is gone."""
        for state in self._states:
            if state.below == "/" and namespace in self._listed(state):
                place = _Place(state, namespace, container_id)
                if self._database(place).records(namespace, container_id).record.created:
                    return True
        return False

    def _is_dockers(self, container_id: str) -> bool:
        return any(self._has_bundle(namespace, container_id) for namespace in DOCKERS)

    def _places(self, container_id: str, path: str) -> Iterator[_Place]:
        """Yield possible places of a container's bundle."""
        above, _, name = path.rpartition("/")
        parent = above.rpartition("/")[2]
        for place, group in self._grouped(parent, name) if path else ():
            if place.id == container_id and path.endswith(group) and place.state.covers(path):
                yield place
        for state in self._states:
            if state.covers(path):
                for namespace in self._candidates(state, container_id, parent):
                    yield _Place(state, namespace, container_id)

    def _place(self, container_id: str, path: str) -> _Place | None:
        return next((place for place in self._places(container_id, path) if place.exists()), None)

    def _find(self, container_id: str, path: str) -> Metadata | None:
        known = None
        for place in self._places(container_id, path):
            try:
                data, written = place.state.read(f"{place.directory}/config.json")
            except (FileNotFoundError, NotADirectoryError):
                continue
            except (OSError, ValueError):
                data, written = b"", 0
            bundle = oci.bundle(data)
            if bundle is not None:
                found = self._metadata(place, bundle, path, written)
                return found if place.exists() else _ended(found)
            known = Metadata(Container(container_id, runtime=self.name))
        return self._recorded(container_id, path) or known

    def _recorded(self, container_id: str, path: str) -> Metadata | None:
        """Return the databases' metadata of a container whose bundle is gone or cannot be read."""
        for place in self._places(container_id, path):
            record = self._database(place).records(place.namespace, place.id).record
            bundle = oci.bundle(record.spec)
            if bundle is not None:
                found = self._metadata(place, bundle, path, record.created)
                waits = place.namespace == KUBERNETES and _waits(self._database(place).status(place.id))
                return found._replace(container=found.container._replace(state=CREATED if waits else EXITED, pid=0))
        return None

    def _candidates(self, state: DataRoot, container_id: str, parent: str) -> list[str]:
        """Return the namespaces in which a container may be: its cgroup's, or any for an id of 64 digits."""
        if not is_id(container_id):
            return [parent] if _may_be(parent, container_id) else []
        return self._listed(state)

    def _listed(self, state: DataRoot) -> list[str]:
        """Return the namespaces that have, or had, bundles; Kubernetes' first."""
        directory = state.shown(f"{state.path}/{TASKS}")
        try:
            changed = os.stat(directory).st_mtime_ns
            known = self._namespaces.get(state)
            if known is None or known[0] != changed:
                names = [n for n in sorted(os.listdir(directory)) if n not in DOCKERS and n.isprintable()]
                names.sort(key=lambda n: n != KUBERNETES)
                known = self._namespaces[state] = changed, names[:_NAMESPACES]
        except OSError:
            return []
        return known[1]

    # Metadata

    def _metadata(self, at: _Place, bundle: oci.Bundle, path: str, written: int) -> Metadata:
        database = self._database(at)
        notes = bundle.annotations
        records = database.records(at.namespace, at.id, bounded(notes.get(f"{_ANNOTATION}sandbox-id")))
        record = records.record
        if len(self._stamps) >= _STAMPS:
            self._stamps.clear()
        self._stamps[at.namespace, at.id] = record.updated
        image = _image(bounded(notes.get(f"{_ANNOTATION}image-name")), record.image)
        status = database.status(at.id) if at.namespace == KUBERNETES else Status()
        pid, started = _first_process(at)
        container = bundle.described(Container(at.id, at.id, image, self.name))._replace(
            image_id=database.image_id(records.image_digest),
            image_digest=records.image_digest,
            labels=texts(record.labels),
            pid=pid if at.state.base == "/" else 0,  # behind another root, process ids may differ
            state=RUNNING if pid else CREATED,
            created=status.created or record.created or written,
            started=status.started or started,
        )
        if f"{_ANNOTATION}container-type" in notes:
            return _of_kubernetes(container, records, bundle, path)
        labels = {**notes, **record.labels}
        name = bounded(labels.get("nerdctl/name"))
        network = ",".join(words(object_of(b'{"n":%s}' % bounded(labels.get("nerdctl/networks")).encode()).get("n")))
        return Metadata(container._replace(name=name or at.id, network=network or container.network))

    def _database(self, at: _Place) -> Database:
        """Return the database of the containerd that made a bundle, by the bundle's link into its root."""
        database = self._databases.get(at.state)
        if database is None:
            link = _linked(at.state.shown(f"{at.directory}/work"))
            root = link or self._roots.get(at.state) or ROOTS.get(at.state.path, DEFAULT_ROOT)
            database = Database(at.state._replace(path=root))
            if link or at.state in self._roots:  # else the next bundle may have a link
                self._databases[at.state] = database
        return database


def _waits(status: Status) -> bool:
    """Whether a container was created and not started yet: it has no bundle then."""
    return bool(status.created) and not status.started and not status.finished


def _image(annotated: str, recorded: str) -> str:
    """Return an image's name: containerd 1.7 annotates the name, 2.3 the request, which may be a digest.

    The database has the name, or an id if the image has no name any more.
    """
    if "@" not in annotated and annotated and not annotated.startswith("sha256:"):
        return annotated
    return annotated if not recorded or recorded.startswith("sha256:") else recorded


def _ended(found: Metadata) -> Metadata:
    """Return the metadata of a container whose bundle is gone."""
    return found._replace(container=found.container._replace(state=EXITED, pid=0))


_NODE = 2  # NamespaceMode.NODE of CRI


def _of_kubernetes(container: Container, records: ContainerRecords, bundle: oci.Bundle, path: str) -> Metadata:
    """Return a container made by CRI, and its pod."""

    def note(key: str) -> str:
        return bounded(bundle.annotations.get(_ANNOTATION + key))

    is_sandbox = note("container-type") == "sandbox"
    sandbox_id = note("sandbox-id") or (container.id if is_sandbox else "")
    record, sandbox = records.record, records.sandbox
    config = sandbox.config
    metadata = config.get("metadata")
    metadata = metadata if isinstance(metadata, dict) else {}
    pod_labels = config.get("labels")
    pod_labels = pod_labels if isinstance(pod_labels, dict) else {}
    pod = Pod(
        note("sandbox-name") or bounded(metadata.get("name")),
        note("sandbox-namespace") or bounded(metadata.get("namespace")),
        note("sandbox-uid") or bounded(metadata.get("uid")) or kubepods.pod_uid(path),
        # the kubelet's own three labels repeat the pod's name
        texts({k: v for k, v in pod_labels.items() if not str(k).startswith(_POD_LABELS)}),
        texts(config.get("annotations")),
        sandbox_id,
        sandbox.addresses,
        qos=kubepods.qos(path),
    )
    security = _security(record.config)
    shares_hosts = _security(config).get("namespace_options")
    on_host = isinstance(shares_hosts, dict) and shares_hosts.get("network") == _NODE
    named = record.config.get("metadata")
    named = named if isinstance(named, dict) else {}
    attempt = named.get("attempt", 0)
    restarts = attempt if isinstance(attempt, int) and 0 <= attempt < 1 << 32 else None
    name = note("container-name") or bounded(named.get("name"))
    return Metadata(
        container._replace(
            name="POD" if is_sandbox else name or container.id,
            labels=texts(record.config.get("labels")) or container.labels,
            annotations=texts(record.config.get("annotations")) or container.annotations,
            image_id=bounded(record.image_id) or container.image_id,
            # a sandbox's flag says that its pod may have privileged containers; the sandbox itself never is
            privileged=security.get("privileged") is True if record.config and not is_sandbox else container.privileged,
            seccomp=_profile(security.get("seccomp"), container.seccomp),
            network="host" if on_host or container.network == "host" else "pod",
            addresses=sandbox.addresses,
            restarts=restarts if record.config and not is_sandbox else None,
            sandbox=is_sandbox,
        ),
        pod,
    )


def _may_be(namespace: str, container_id: str) -> bool:
    """Whether the names of two cgroups may be a container's namespace and id."""
    return (
        0 < len(namespace) <= _NAME_LIMIT
        and 0 < len(container_id) <= _NAME_LIMIT
        and namespace not in DOCKERS
        and namespace[0].isalnum()
        and container_id[0].isalnum()
        and not container_id.startswith(_OTHERS)
        and not container_id.endswith(_UNITS)
    )


def _first_process(at: _Place) -> tuple[int, int]:
    """Return the first process's id, in the daemon's view, and when it was started; 0 and 0 before that."""
    try:
        data, written = at.state.read(f"{at.directory}/init.pid", 32)
        pid = int(data)
    except (OSError, ValueError):
        return 0, 0
    return (pid, written) if 0 < pid < 1 << 31 else (0, 0)


def _security(config: Mapping[str, object]) -> Mapping[str, object]:
    linux = config.get("linux")
    security = linux.get("security_context") if isinstance(linux, dict) else None
    return security if isinstance(security, dict) else {}


def _profile(asked: object, seen: str) -> str:
    """Return the name of a filter in the CRI request; the bundle says whether there is one."""
    if seen == "unconfined" or not isinstance(asked, dict):
        return seen
    kind = asked.get("profile_type", 0)
    return "default" if kind == 0 else bounded(asked.get("localhost_ref")) or seen


# State directories


def _daemons_places(daemon: Daemon) -> tuple[str, str]:
    """Return a daemon's state directory and its root."""
    arguments = daemon.arguments
    config = option(arguments, "--config", "-c") or DEFAULT_CONFIG
    root = option(arguments, "--root") or _configured(daemon, config, "root") or DEFAULT_ROOT
    state = option(arguments, "--state") or _configured(daemon, config) or DEFAULT_STATE
    return state, os.path.join(daemon.cwd, root)


def _shims_places(daemon: Daemon) -> tuple[str, str]:
    """Return the state directory of a shim's bundle, and its daemon's root; empty for other shims."""
    state, found, _ = daemon.cwd.partition(f"/{TASKS}/")
    if not found:
        return "", ""
    base = "" if daemon.base == "/" else daemon.base
    return state, _linked(f"{base}{daemon.cwd}/work")


def _linked(link: str) -> str:
    """Return the root directory that a bundle's link names; empty if it is missing or leads elsewhere."""
    try:
        root, found, _ = os.readlink(link).partition(f"/{TASKS}/")
    except (OSError, ValueError):
        return ""
    return root if found and root.startswith("/") else ""


def _configured(daemon: Daemon, config: str, wanted: str = "state", depth: int = 2) -> str:
    """Return the state directory, or the root, that a config.toml names; empty if it names none.

    The key comes before the first table in all versions of the file; reading only that part is cheaper than a TOML
    parser. Imported files are merged into it; the last one counts.
    """
    try:
        text = daemon.read(config)[:_SMALL].decode("utf-8", "replace")
    except (OSError, ValueError):
        return ""
    value = _key(text, wanted)
    for pattern in _imports(text) if depth else ():
        for path in _matching(daemon, os.path.join(os.path.dirname(config), pattern)):
            value = _configured(daemon, path, wanted, depth - 1) or value
    return value


def _imports(text: str) -> list[str]:
    """Return the imports of a config.toml: file names, with shell patterns."""
    if "imports" not in text:
        return []
    import re

    top = re.split(r"(?m)^\s*\[", text, maxsplit=1)[0]
    found = re.search(r"(?ms)^\s*imports\s*=\s*\[(.*?)\]", top)
    return [a or b for a, b in re.findall(r"\"([^\"\n]*)\"|'([^'\n]*)'", found[1])][:_IMPORTS] if found else []


def _matching(daemon: Daemon, pattern: str) -> list[str]:
    """Return a daemon's files that match a pattern, sorted; only its last component may have wildcards."""
    directory, _, last = os.path.join(daemon.cwd, pattern).rpartition("/")
    if not set(last) & set("*?["):
        return [pattern]
    import fnmatch
    import re

    try:
        names = sorted(os.listdir(directory if daemon.base == "/" else daemon.base + directory))
    except (OSError, ValueError):
        return []
    fits = re.compile(fnmatch.translate(last)).match
    return [f"{directory}/{name}" for name in names if fits(name)][:_IMPORTS]


def _key(text: str, wanted: str) -> str:
    """Return the value of a key before the first table; empty if it is missing."""
    for line in text.splitlines():
        key, equals, value = line.partition("=")
        if key.lstrip().startswith("["):
            break
        if equals and key.strip().strip("\"'") == wanted:
            value = value.strip()
            return bounded(value[1:].partition(value[0])[0]) if value[:1] in {'"', "'"} else ""
    return ""


RUNTIME = Containerd
