# SPDX-License-Identifier: BSD-2-Clause
"""Metadata from bundles' config.json, some of them hostile."""

import json

import pytest

from eunomia.containers.oci import Bundle, bundle
from eunomia.containers.runtime import TEXT_LIMIT
from eunomia.identity import Container, Mount
from eunomia.meaning import capability_name

NAMESPACES = [{"type": kind} for kind in ("pid", "ipc", "uts", "mount", "network")]
ALL = [capability_name(n) for n in range(41)]


def config(**changes):
    """A config.json like runc's own, with some parts replaced."""
    whole = {
        "ociVersion": "1.0.2",
        "process": {
            "user": {"uid": 1000, "gid": 50},
            "args": ["httpd", "-f"],
            "capabilities": {"bounding": ["CAP_CHOWN", "CAP_KILL"]},
            "apparmorProfile": "docker-default",
        },
        "mounts": [
            {"destination": "/proc", "type": "proc", "source": "proc"},
            {"destination": "/data", "type": "bind", "source": "/srv", "options": ["rbind", "ro"]},
            {"destination": "/more", "source": "/srv/more", "options": ["rbind", "rw"]},
        ],
        "annotations": {"a": "b"},
        "linux": {
            "namespaces": NAMESPACES,
            "seccomp": {"defaultAction": "SCMP_ACT_ERRNO"},
            "cgroupsPath": "/default/web",
        },
    }
    return json.dumps(whole | changes).encode()


def linux(**changes):
    return config(linux={"namespaces": NAMESPACES, **changes})


def test_a_bundle_has_what_runc_applies():
    told = bundle(config())
    assert told.command == ("httpd", "-f")
    assert (told.user, told.capabilities) == ("1000:50", ("CAP_CHOWN", "CAP_KILL"))
    assert (told.apparmor, told.seccomp, told.network, told.privileged) == ("default", "filter", "none", False)
    assert told.mounts == (Mount("/srv", "/data", "bind", False), Mount("/srv/more", "/more", "bind", True))
    assert (told.texts(), told.cgroup, told.rootless) == ((("a", "b"),), "/default/web", False)
    assert told.described(Container("id", "name")).command == ("httpd", "-f")


@pytest.mark.parametrize(
    ("namespaces", "network"),
    [
        ([{"type": "mount"}], "host"),
        ([{"type": "network"}], "none"),
        ([{"type": "network", "path": "/proc/5/ns/net"}], ""),
        ([], ""),
        (None, ""),
    ],
)
def test_the_network_follows_from_the_namespaces(namespaces, network):
    assert bundle(linux(namespaces=namespaces)).network == network


def test_a_hook_may_make_a_network():
    assert bundle(config(hooks={"createRuntime": [{"path": "/usr/bin/nerdctl"}]})).network == ""


def test_privileged_is_set_only_if_it_is_certain():
    free = {"user": {"uid": 0, "gid": 0}, "capabilities": {"bounding": ALL}}
    devices = {"resources": {"devices": [{"allow": False, "access": "rwm"}, {"allow": True, "access": "rwm"}]}}
    unbound = {"namespaces": NAMESPACES, **devices}
    assert bundle(config(process=free, linux=unbound)).privileged is True
    for restricted in (
        {"seccomp": {"defaultAction": "SCMP_ACT_ALLOW"}}, {"maskedPaths": ["/proc/kcore"]}, {"readonlyPaths": ["/sys"]},
        {"resources": {"devices": [{"allow": False, "access": "rwm"}]}}, {"resources": None},
    ):  # fmt: skip
        assert bundle(config(process=free, linux=unbound | restricted)).privileged is None
    assert bundle(config(process=free | {"capabilities": {"bounding": ALL[:30]}}, linux=unbound)).privileged is None
    rootless = unbound | {"namespaces": [*NAMESPACES, {"type": "user"}]}
    assert (
        bundle(config(process=free, linux=rootless)).privileged,
        bundle(config(process=free, linux=rootless)).rootless,
    ) == (False, True)
    assert bundle(config(process={"capabilities": {"bounding": ["CAP_CHOWN"]}}, linux=unbound)).privileged is False


def test_no_filter_and_no_profile_is_unconfined():
    told = bundle(config(process={}, linux={"namespaces": NAMESPACES}))
    assert (told.seccomp, told.apparmor, told.capabilities) == ("unconfined", "unconfined", ())


@pytest.mark.parametrize(
    "data",
    [b"", b"{", b"[]", b"null", b"17", b'"text"', b"\xff\xfe\x00", b"[" * 100_000, b'{"process":' * 100_000],
    ids=lambda d: repr(d)[:20],
)
def test_what_is_no_object_is_ignored(data):
    assert bundle(data) is None


NESTED = json.loads("[" * 200 + "]" * 200)


@pytest.mark.parametrize("value", [None, 1, -1.5, True, "x", [], [[]], {}, {"a": [1]}, {"": None}, 1 << 70, NESTED])
def test_parts_of_any_other_type_are_left_out(value):
    """Each part, and each within a part, is replaced by each kind of value in turn."""
    blank = Bundle({})
    for part in ("process", "mounts", "annotations", "linux", "hooks"):
        inside = (
            "user",
            "args",
            "capabilities",
            "apparmorProfile",
            "namespaces",
            "seccomp",
            "resources",
            "cgroupsPath",
        )
        for changed in (value, [value], *({name: value} for name in inside), {"capabilities": {"bounding": value}}):
            told = bundle(config(**{part: changed}))
            assert told is not None
            for one, like in zip(told, blank, strict=True):
                assert like is None or isinstance(one, type(like))
            assert len(told.texts()) < 300


@pytest.mark.parametrize("deep", [b"[" * 50_000 + b"]" * 50_000, b'{"a":' * 50_000 + b"1" + b"}" * 50_000])
def test_deep_nesting_costs_that_part_at_most(deep):
    told = bundle(b'{"annotations":' + deep + b',"process":{"args":["a"]}}')
    assert told is None or told.command == ("a",)


def test_everything_is_bounded():
    told = bundle(
        config(
            annotations={f"{n:06}": "x" * 10_000 for n in range(1000)},
            mounts=[{"destination": "y" * 9_000, "type": "bind", "source": "z"}] * 5000,
            process={"args": ["a" * 100_000] * 1000, "capabilities": {"bounding": ["CAP_X"] * 10_000}},
        )
    )
    assert len(told.command[0]) == TEXT_LIMIT
    assert len(told.command) < 10
    assert len(told.mounts) <= 64
    assert len(told.capabilities) <= 256
    assert sum(len(k) + len(v) for k, v in told.texts()) < 20_000


def test_bytes_that_are_not_utf8_and_control_characters_do_no_harm():
    told = bundle(config(annotations={"k": "a\x1b[2Jb"}).replace(b"httpd", b"ht\xfftpd"))
    assert told.command[0].startswith("ht")
    assert told.texts() == (("k", "a\x1b[2Jb"),), "sinks escape it"
    half = bundle(b'{"process":{"args":["\\ud800"]}}')
    assert half is None or "".join(half.command).encode()
