# SPDX-License-Identifier: BSD-2-Clause
"""A tracker goes to a real registry and comes back, byte for byte."""

import hashlib
import json
import platform

import pytest

from tests.oci.test_build import OWN, TRACKER

UNSIGNED = "--insecure-unsigned"


@pytest.fixture
def pushed(eunomia, registry, built):
    """pushed(name, *options) -> the reference with its digest."""

    def push(name, *options, what=built):
        done = eunomia("push", what, f"{registry.host}/{name}", *options)
        assert done.code == 0, done.err
        return done.out.strip()

    return push


def manifest_of(registry, pinned):
    repository, _, digest = pinned.partition("/")[2].partition("@")
    data = registry.get(f"{repository}/manifests/{digest}")
    assert f"sha256:{hashlib.sha256(data).hexdigest()}" == digest
    return repository, json.loads(data)


def test_what_is_pushed_is_pulled_by_tag_and_by_digest(eunomia, registry, built, pushed, tmp_path):
    pinned = pushed("trackers/mine:1.0")
    for reference in (f"{registry.host}/trackers/mine:1.0", pinned, f"oci://{pinned}"):
        done = eunomia("pull", reference, UNSIGNED, "-o", tmp_path / "got.o")
        assert done.code == 0, done.err
        assert (tmp_path / "got.o").read_bytes() == built.read_bytes()
        assert pinned.partition("@")[2] in done.err


def test_the_artefact_is_an_oci_manifest_that_describes_the_object(registry, built, pushed):
    repository, manifest = manifest_of(registry, pushed("trackers/told:1", "--description", "Who starts what?"))
    assert manifest["mediaType"] == "application/vnd.oci.image.manifest.v1+json"
    assert manifest["artifactType"] == "application/vnd.eunomia.tracker.v1"
    config = json.loads(registry.get(f"{repository}/blobs/{manifest['config']['digest']}"))
    digest = f"sha256:{hashlib.sha256(built.read_bytes()).hexdigest()}"
    size = built.stat().st_size
    assert config["name"] == "mine"
    assert config["description"] == "Who starts what?"
    assert config["objects"] == [{"digest": digest, "size": size, "architectures": [platform.machine()]}]
    assert config["kernel"] == {"programs": ["tp/sched/sched_process_exec"], "maps": ["hash", "ringbuf"]}
    (layer,) = manifest["layers"]
    assert (layer["digest"], layer["size"]) == (digest, size)
    assert registry.get(f"{repository}/blobs/{digest}") == built.read_bytes()


def test_equal_content_has_an_equal_digest(pushed):
    one, other = pushed("trackers/same:1"), pushed("trackers/same:2")
    assert one == other


def test_a_tracker_s_folder_keeps_what_it_declares_and_its_texts(eunomia, registry, pushed, tmp_path):
    folder = tmp_path / "execs"
    folder.mkdir()
    (folder / "execs.bpf.c").write_text(OWN)
    (folder / "tracker.py").write_text(TRACKER)
    (folder / "README.md").write_text("# execs\n")
    assert eunomia("build", folder).code == 0
    pinned = pushed("trackers/execs:1", what=folder)
    assert eunomia("pull", pinned, UNSIGNED, "-o", tmp_path / "x.o", "--files", tmp_path).code == 0
    assert (tmp_path / "README.md").read_text() == "# execs\n"
    assert (tmp_path / "execs.bpf.c").read_text() == OWN
    assert eunomia("info", f"oci://{pinned}", UNSIGNED).out.startswith("execs: Which programs start?\n")
    assert eunomia("pull", pinned, UNSIGNED, "-o", tmp_path / "x.o", "--files", tmp_path).code == 1, "would overwrite"


def test_rows_made_in_python_are_not_distributed(eunomia, registry, tmp_path):
    (tmp_path / "tracker.py").write_text(TRACKER.replace("variants", 'derive="os:system", variants'))
    said = eunomia("push", tmp_path, f"{registry.host}/no:1").one_line(1)
    assert "code in Python is not distributed" in said


def test_an_object_for_another_machine_is_refused_here_and_found_if_there_is_one_for_this(eunomia, built, pushed, tmp_path):
    pinned = pushed("trackers/elsewhere:1", "--architecture", "riscv64")
    said = eunomia("pull", pinned, UNSIGNED, "-o", tmp_path / "x.o").one_line(1)
    assert f"it has no object for {platform.machine()}: there is one for riscv64" in said
    pinned = pushed("trackers/both:1", "--architecture", "riscv64", "--object", f"{platform.machine()}={built}")
    assert eunomia("pull", pinned, UNSIGNED, "-o", tmp_path / "x.o").code == 0


def test_the_name_that_pull_writes_is_the_tracker_s_and_nothing_is_overwritten(eunomia, built, pushed, tmp_path):
    pinned = pushed("trackers/mine:2")
    assert eunomia("pull", pinned, UNSIGNED, cwd=tmp_path).out == "mine.bpf.o\n"
    assert "mine.bpf.o: it exists" in eunomia("pull", pinned, UNSIGNED, cwd=tmp_path).one_line(1)


def test_unsigned_artefacts_are_refused_unless_asked_for(eunomia, pushed, keys, tmp_path):
    pinned = pushed("trackers/unsigned:1")
    assert "it must be signed, and there is no key" in eunomia("pull", pinned, cwd=tmp_path).one_line(1)
    assert "it is not signed" in eunomia("pull", pinned, "--key", keys.public, cwd=tmp_path).one_line(1)
    assert "it is not signed" in eunomia("run", f"oci://{pinned}", "--key", keys.public).one_line(1)
    assert not list(tmp_path.glob("*.o"))


def test_not_verifying_is_said_and_is_not_combined_with_a_key(eunomia, pushed, keys, tmp_path):
    pinned = pushed("trackers/unsigned:2")
    done = eunomia("pull", pinned, UNSIGNED, cwd=tmp_path)
    assert done.err == f"eunomia: {pinned}: not verified: signatures are not required\n"
    assert "give one of them" in eunomia("pull", pinned, UNSIGNED, "--key", keys.public).one_line(2)


def test_what_a_registry_does_not_have_is_said(eunomia, registry):
    said = eunomia("pull", f"{registry.host}/trackers/none:1", UNSIGNED).one_line(1)
    assert said == f"{registry.host}/trackers/none:1: the registry does not have it"


def test_a_registry_that_is_not_there_is_said(eunomia):
    assert "cannot connect: Connection refused" in eunomia("pull", "127.0.0.1:1/a:1", UNSIGNED).one_line(1)


def test_a_container_image_is_no_tracker(eunomia, registry):
    config = b"{}"
    digest = registry.put("image/blobs", config, "application/octet-stream")
    manifest = {
        "schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json", "layers": [],
        "config": {"mediaType": "application/vnd.oci.image.config.v1+json", "digest": digest, "size": len(config)},
    }  # fmt: skip
    registry.put("image/manifests/1", json.dumps(manifest).encode(), manifest["mediaType"])
    said = eunomia("pull", f"{registry.host}/image:1", UNSIGNED).one_line(1)
    assert "it is not a tracker" in said
    assert "it is application/vnd.oci.image.config.v1+json" in said


@pytest.mark.parametrize(
    ("word", "said"),
    [
        ("mine:1", "name the registry too"),
        ("trackers/mine:1", "name the registry too"),
        ("localhost:5000/Mine:1", "lower-case letters"),
        ("localhost:5000/mine:a b", "the tag after :"),
        ("localhost:5000/mine@sha256:12", "64 hexadecimal digits"),
        ("localhost:99999/mine", "is not the name of a registry"),
        ("localhost:5000/../mine", "lower-case letters"),
        ("oci://", "name the registry too"),
        ("a@b.example.com/mine:1", "64 hexadecimal digits"),
    ],
)
def test_a_wrong_reference_is_wrong_usage(eunomia, word, said):
    assert said in eunomia("pull", word).one_line(2)


def test_only_an_object_is_pushed(eunomia, registry, tmp_path):
    (tmp_path / "text.o").write_text("no object")
    said = eunomia("push", tmp_path / "text.o", f"{registry.host}/no:1").one_line(1)
    assert "text.o" in said


@pytest.mark.parametrize("option", ["--insecure-unsigned", "--plain-http", "--key=x", "--ca-file=x"])
def test_options_on_registries_are_refused_without_one(eunomia, option):
    assert "it is for trackers in a registry" in eunomia("run", "process", option).one_line(2)
