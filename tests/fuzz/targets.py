# SPDX-License-Identifier: BSD-2-Clause
"""What is fuzzed: a target has inputs to begin with, reads one, and may raise what its reader declares, nothing else."""

from __future__ import annotations

import json
import struct
from functools import cache
from pathlib import Path
from random import Random

from eunomia.kernel.errors import BadObject, BadSetting
from tests.containers.bolt_file import Writer, fnv
from tests.fuzz import artefacts, host, records, runtimes, server
from tests.fuzz.target import FOLDER, ID, Target
from tests.kernel import compiled

FOREIGN = Path(__file__).parents[1] / "foreign"


@cache
def objects() -> tuple[bytes, ...]:
    sources = [(FOREIGN / f"{name}.bpf.c").read_text() for name in ("tunable", "several_rings", "shapes")]
    return tuple(map(compiled.bpf, [*sources, doubling(28)]))


def doubling(levels: int) -> str:
    """Return an object whose struct has two of the next smaller one at each level."""
    structs = "".join(f"struct s{i} {{ struct s{i - 1} a, b; }};\n" for i in range(1, levels + 1))
    return f'''#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
struct s0 {{ char a; }};
{structs}
struct {{ __uint(type, BPF_MAP_TYPE_HASH); __uint(max_entries, 1); __type(key, __u32);
         __type(value, struct s{levels}); }} doubled SEC(".maps");
char LICENSE[] SEC("license") = "GPL";
SEC("raw_tp/sys_enter") int go(void *ctx) {{ return bpf_map_lookup_elem(&doubled, &(__u32){{0}}) != 0; }}
'''


def _sections(name: str) -> list[bytes]:
    from eunomia.kernel.elf import section

    return [section(data, name) for data in objects()]


def _object(data: bytes) -> None:
    from eunomia.source import open_source

    path = FOLDER / "x.bpf.o"
    path.write_bytes(data)
    open_source(str(path)).spec.close()


def _btf(raw: bytes) -> None:
    from eunomia.kernel.btf import Btf
    from eunomia.kernel.schema import schema
    from eunomia.kernel.types import sizeof

    btf = Btf(raw)
    for _, name, _, _, id_ in btf.variables():
        btf.variable_type(id_)
        btf.map_member(name, "value")
    for struct_ in btf.structs():
        if sizeof(struct_):
            schema(struct_)


def _core(raw: bytes) -> None:
    from eunomia.kernel.foreign.core_types import kernel_structs

    kernel_structs(raw, _sections(".BTF.ext")[0])
    kernel_structs(_sections(".BTF")[0], raw)


def _dwarf(data: bytes) -> None:
    from eunomia.kernel.foreign.dwarf import Dwarf

    dwarf = Dwarf(data)
    list(dwarf.declared())
    dwarf.locals("look")


def _bytecode(data: bytes) -> None:
    from eunomia.kernel.foreign.bytecode import uses

    uses(data)


def _elf(data: bytes) -> None:
    from eunomia.kernel.elf import check, section

    check(data, "x")
    section(data, ".BTF")


def _bolt_seeds() -> list[bytes]:
    container = {b"runtime": {b"name": b"io"}, b"labels": {b"a": b"b"}, b"image": b"busybox", b"createdat": b"\1" * 15}
    tree = {b"v1": {b"default": {b"containers": {ID.encode(): container}}}}
    return [Writer().file(tree), Writer(inline=0, fanout=2).file(tree)]


def _bolt_summed(data: bytes, random: Random) -> bytes:
    """Give broken meta pages a right sum, half of the time: what is rightly summed is believed."""
    out = bytearray(data)
    for at in (16, 4096 + 16):
        if random.randrange(2) and len(out) >= at + 64:
            struct.pack_into("=IIIIQ", out, at, 0xED0CDAED, 2, random.choice((4096, 4096, 4, 1 << 31)), 0, random.choice((3, 1 << 62)))
            struct.pack_into("=Q", out, at + 56, fnv(bytes(out[at : at + 56])))
    return bytes(out)


def _bolt(data: bytes) -> None:
    from eunomia.containers import bolt

    path = FOLDER / "x.db"
    path.write_bytes(data)

    def walk(bucket: bolt.Bucket, depth: int) -> None:
        for _ in bucket.items():
            pass
        for _, below in bucket.buckets() if depth < 8 else ():
            walk(below, depth + 1)

    def question(db: bolt.Bolt) -> None:
        found = db.bucket(b"v1", b"default")
        if found is not None:
            walk(found, 0)

    bolt.ask(str(path), question)


def _databases(data: bytes) -> None:
    from eunomia.containers.containerd_db import Database
    from eunomia.containers.daemons import DataRoot
    from eunomia.containers.runtimes.podman import Podman
    from eunomia.containers.storage import Store

    for place in ("libpod/bolt_state.db", "io.containerd.metadata.v1.bolt/meta.db"):
        (FOLDER / place).parent.mkdir(exist_ok=True)
        (FOLDER / place).write_bytes(data)
    root = DataRoot("/", str(FOLDER))
    Database(root).records("default", ID)
    Podman([Store(root)]).lookup(ID, f"/machine.slice/libpod-{ID}.scope")


def _cri(data: bytes) -> None:
    from eunomia.containers.cri_messages import Message

    message = Message(data)
    for number in range(1, 8):
        for read in (message.text, message.number, message.message, message.texts, lambda n: list(message.messages(n))):
            read(number)


def _cri_seeds() -> list[bytes]:
    from eunomia.containers.cri_messages import encoded

    return [encoded({1: "a", 2: {1: "b", 2: "c"}, 3: "d" * 300}), encoded({1: {1: "x"}, 7: "y"})]


def _json_seeds() -> list[bytes]:
    config = {
        "ID": ID, "Name": "/web", "Created": "2026-01-01T00:00:00Z", "State": {"Running": True, "Pid": 7, "ExitCode": 0},
        "Config": {"Image": "a/b:1", "Labels": {"a": "b"}, "Env": ["A=B"], "User": "1:2"}, "HostConfig": {"Privileged": False},
        "NetworkSettings": {"Networks": {"bridge": {"IPAddress": "10.0.0.2"}}}, "MountPoints": {"/x": {"Source": "/y"}},
    }  # fmt: skip
    bundle = {
        "ociVersion": "1.0", "process": {"args": ["sh"], "user": {"uid": 1}, "capabilities": {"bounding": ["CAP_KILL"]}},
        "mounts": [{"destination": "/proc", "type": "proc", "options": ["ro"]}], "annotations": {"a": "b"},
        "linux": {"namespaces": [{"type": "network", "path": "/x"}], "cgroupsPath": "/a/b", "seccomp": {}},
    }  # fmt: skip
    return [json.dumps(config).encode(), json.dumps(bundle).encode()]


def _json(data: bytes) -> None:
    from eunomia.containers.daemons import DataRoot
    from eunomia.containers.oci import bundle
    from eunomia.containers.runtimes.docker import Docker
    from eunomia.containers.tolerant_json import object_of

    object_of(data)
    found = bundle(data)
    if found is not None:
        found.texts()
    path = FOLDER / "containers" / ID
    path.mkdir(parents=True, exist_ok=True)
    for name in ("config.v2.json", "hostconfig.json"):
        (path / name).write_bytes(data)
    Docker([DataRoot("/", str(FOLDER))]).lookup(ID, f"/docker/{ID}")


def _pod_seeds() -> list[bytes]:
    meta = {"name": "a", "namespace": "b", "uid": "c", "resourceVersion": "7", "labels": {"x": "y"},
            "ownerReferences": [{"kind": "ReplicaSet", "name": "r", "uid": "u", "controller": True}]}  # fmt: skip
    status = {"podIP": "10.0.0.1", "phase": "Running", "containerStatuses": [{"name": "c", "containerID": f"containerd://{ID}"}]}
    pod = {"kind": "Pod", "metadata": meta, "spec": {"nodeName": "n"}, "status": status}
    page = {"metadata": {"resourceVersion": "9", "continue": "x"}, "items": [pod]}
    return [json.dumps(x).encode() for x in (pod, page, {"type": "ADDED", "object": pod})]


def _kubernetes(data: bytes) -> None:
    from eunomia.kubernetes import objects as read

    for reader in (read.pod, read.service, read.owner, read.page, read.event, read.version, read.name, read.code, read.message_of):
        try:
            reader(data)
        except read.Malformed:
            continue


@cache
def _tunable() -> object:
    from eunomia.kernel.spec import Spec

    return Spec(objects()[0], "tunable")


def _settings(data: bytes) -> None:
    from eunomia.kernel import entries, settings

    parts = entries.split(data.decode("utf-8", "surrogateescape"))
    spec = _tunable()
    if parts is not None and entries.locate(spec.tables, *parts, ["look"]) is None:
        found = settings.locate(spec.settings, parts[0])
        if found is not None:
            settings.write(found, parts[1], bytearray(spec.images[found.section]))


def _words(data: bytes) -> None:
    from eunomia.cli.errors import UsageError
    from eunomia.cli.words import byte_size, number, pairs, seconds

    word = data.decode("utf-8", "surrogateescape")
    for read in (seconds, byte_size, lambda w, o: number(w, o, 1), lambda w, o: pairs([w], o, "A=B")):
        try:
            read(word, "--option")
        except UsageError:
            continue


def _escape(data: bytes) -> None:
    from eunomia.sinks.escape import escape

    told = escape(data.decode("utf-8", "surrogateescape"))
    assert told.isprintable()
    told.encode()


def _paths(data: bytes) -> None:
    from eunomia.cgroup_hierarchy import _unescape
    from eunomia.containers.paths import candidates, id_in, printable

    word = data.decode("utf-8", "surrogateescape")
    candidates(word, [])
    id_in(word)
    printable(word)
    _unescape(word)


def _setting_seeds() -> list[bytes]:
    return [
        b"cfg.limits.low=3", b"cfg.ports[2]=443", b"cfg.comm=nginx", b"cfg.narrow=5", b"cfg.limits={low=1, high=2}", b"huge=42",
        b'by_name["a"].high=12', b"by_flow[127.0.0.1,53]=13", b"prefixes[10.0.0.0/8]=16", b"tails[3]=look", b"cfg.mode=SLOW",
    ]  # fmt: skip


def _word_seeds() -> list[bytes]:
    return [b"500ms", b"8MiB", b"4294967295", b"name=value", b"2.5h"]


def _path_seeds() -> list[bytes]:
    pod = b"/kubepods.slice/kubepods-pod0d5e7d04_4d4e_4bd5_a7a4_5ad5ad5ad5ad.slice/cri-containerd-"
    return [b"/docker/" + ID.encode(), pod + ID.encode() + b".scope", rb"/a\040b\134c", b"\x1b[2J\n"]


def _targets() -> dict[str, Target]:
    from eunomia.containers.bolt import Broken

    return {
        "object": Target(objects, _object, (BadObject,), 20),
        "btf": Target(lambda: _sections(".BTF"), _btf, (BadObject,), 4),
        "core_types": Target(lambda: _sections(".BTF") + _sections(".BTF.ext"), _core, (BadObject,), 2),
        "elf": Target(objects, _elf, (BadObject,), 2),
        "dwarf": Target(objects, _dwarf, (BadObject,), 20),
        "bytecode": Target(objects, _bytecode, (BadObject,), 20),
        "bolt": Target(_bolt_seeds, _bolt, (Broken, OSError), 2, _bolt_summed),
        "databases": Target(_bolt_seeds, _databases, (), 4, _bolt_summed),
        "cri": Target(_cri_seeds, _cri, (ValueError,)),
        "json": Target(_json_seeds, _json, (), 2),
        "kubernetes": Target(_pod_seeds, _kubernetes),
        "settings": Target(_setting_seeds, _settings, (BadSetting,)),
        "words": Target(_word_seeds, _words),
        "escape": Target(_path_seeds, _escape),
        "paths": Target(_path_seeds, _paths),
        **runtimes.TARGETS,
        **host.TARGETS,
        **records.TARGETS,
        **server.TARGETS,
        **artefacts.TARGETS,
    }


TARGETS = _targets()
