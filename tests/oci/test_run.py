# SPDX-License-Identifier: BSD-2-Clause
"""`eunomia run oci://...`: what a registry has runs in this kernel, if its signature is good."""

import json
import os
import subprocess
import sys

import pytest

from eunomia.oci import fetch, reference, settings
from eunomia.oci.cache import Cache
from eunomia.oci.errors import Refused, RegistryError
from eunomia.oci.keys import read_public
from eunomia.oci.policy import Policy
from tests import needs
from tests.oci import registries
from tests.oci.test_build import OWN, TRACKER

COLUMNS = """
from eunomia.tracker import Tracker, Variant
TRACKER = Tracker(
    title="Which programs start?",
    variants=(Variant("better", ("on_nothing",)), Variant("raw_tp", ("on_exec",))),
    columns={"seen": ("pid", "comm")},
)
"""
TWO = OWN + """
HANDLER("raw_tp/eunomia_has_no_such_tracepoint", on_nothing, void *task)
{
}
"""


@pytest.fixture
def signed(eunomia, registry, built, keys):
    """signed(name) -> the pinned reference of an artefact that `keys` signed."""

    def sign(name="run/mine:1", what=built):
        pinned = eunomia("push", what, f"{registry.host}/{name}").out.strip()
        assert eunomia("sign", pinned, "--key", keys.private).code == 0
        return pinned

    return sign


def test_a_signed_object_runs_and_says_where_it_is_from(eunomia, signed, keys):
    needs.root()
    pinned = signed()
    acts = subprocess.Popen(["sh", "-c", "while sleep 0.05; do /bin/true; done"])
    try:
        done = eunomia("run", f"oci://{pinned}", "--key", keys.public, "--count", "1", "-o", "json")
    finally:
        acts.kill()
        acts.wait()
    assert done.code == 0, done.err
    row = json.loads(done.out)
    assert (row["tracker"], row["stream"]) == ("mine", "events")
    assert f"eunomia: mine: {pinned}, signed by {keys.public}\n" in done.err


def test_a_tracker_keeps_its_variants_and_columns(eunomia, signed, keys, tmp_path):
    needs.root()
    folder = tmp_path / "execs"
    folder.mkdir()
    (folder / "execs.bpf.c").write_text(TWO)
    (folder / "tracker.py").write_text(COLUMNS)
    assert eunomia("build", folder).code == 0
    pinned = signed("run/execs:1", folder)
    done = eunomia("run", f"oci://{pinned}", "--key", keys.public, "--duration", "300ms")
    assert done.code == 0, done.err
    assert done.out.split("\n")[0].split() == ["TIME", "CONTAINER", "PID", "COMM"]
    assert "execs/seen: emitted" in done.err


def test_it_runs_beside_a_tracker_of_eunomia_s_own(eunomia, signed, keys):
    needs.root()
    done = eunomia("run", f"oci://{signed()}", "process", "--key", keys.public, "--duration", "200ms")
    assert done.code == 0, done.err
    assert "mine/events: emitted" in done.err
    assert "process/exec: emitted" in done.err


def test_a_key_that_did_not_sign_it_lets_it_not_run(eunomia, signed, others_keys):
    said = eunomia("run", f"oci://{signed()}", "--key", others_keys.public, "--duration", "1s").one_line(1)
    assert "no known key made it" in said


def test_a_tag_that_somebody_moved_is_not_what_was_pinned(eunomia, registry, signed, keys, tmp_path):
    first = signed("run/moved:1")
    folder = tmp_path / "execs"
    folder.mkdir()
    (folder / "execs.bpf.c").write_text(OWN)
    (folder / "tracker.py").write_text(TRACKER)
    assert eunomia("build", folder).code == 0
    assert eunomia("push", folder, f"{registry.host}/run/moved:1").code == 0
    by_tag = eunomia("pull", f"{registry.host}/run/moved:1", "--key", keys.public, "-o", tmp_path / "x.o")
    assert "it is not signed" in by_tag.one_line(1)
    both = f"{registry.host}/run/moved:1@{first.partition('@')[2]}"
    assert eunomia("pull", both, "--key", keys.public, "-o", tmp_path / "x.o").code == 0


def test_a_pin_is_taken_from_the_cache_without_the_registry_and_verified_again(
    eunomia, built, keys, others_keys, tmp_path
):
    """The second pull finds everything on disk, and still asks whether this key signed it."""
    known = settings.Settings(
        Policy(keys=(read_public(str(keys.public)),)), cache=Cache(str(tmp_path / "cache"))
    )
    with registries.running(tmp_path / "registry") as registry:
        pinned = eunomia("push", built, f"{registry.host}/mine:1").out.strip()
        assert eunomia("sign", pinned, "--key", keys.private).code == 0
        where = reference.parse(pinned)
        assert fetch.fetch(where, known).object == built.read_bytes()
    pulled = fetch.fetch(where, known)
    assert pulled.object == built.read_bytes()
    assert pulled.decision.signer == str(keys.public)
    with pytest.raises(RegistryError, match="cannot connect"):
        fetch.fetch(where._replace(digest="", tag="1"), known)
    stranger = known._replace(policy=Policy(keys=(read_public(str(others_keys.public)),)))
    with pytest.raises((Refused, RegistryError)):
        fetch.fetch(where, stranger)
    forbidden = known._replace(policy=known.policy._replace(allow=("registry.example.com/*",)))
    with pytest.raises(Refused, match="on the list"):
        fetch.fetch(where, forbidden)


def test_what_was_changed_in_the_cache_is_pulled_again(signed, built, keys, tmp_path):
    known = settings.Settings(
        Policy(keys=(read_public(str(keys.public)),)), cache=Cache(str(tmp_path / "own-cache"))
    )
    where = reference.parse(signed())
    assert fetch.fetch(where, known).object == built.read_bytes()
    for name in os.listdir(known.cache.directory):
        with open(os.path.join(known.cache.directory, name), "wb") as file:
            file.write(b"changed")
    assert fetch.fetch(where, known).object == built.read_bytes()


def test_a_registry_is_not_watched(eunomia, signed, keys):
    said = eunomia("run", f"oci://{signed()}", "--key", keys.public, "--watch").one_line(2)
    assert said == "--watch: it is for files: what a registry has is not watched"


def test_info_describes_what_a_registry_has(eunomia, signed, keys):
    done = eunomia("info", f"oci://{signed()}", "--key", keys.public)
    assert done.code == 0, done.err
    assert "stream events: events, by ring buffer" in done.out


def test_without_the_extra_packages_it_says_how_to_install_them(built):
    script = (
        "import sys; sys.modules['urllib3'] = None; from eunomia.cli import main; sys.exit(main(sys.argv[1:]))"
    )
    words = ["run", "oci://localhost:1/mine:1", "--insecure-unsigned"]
    done = subprocess.run([sys.executable, "-c", script, *words], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr == "eunomia: a registry needs the Python package urllib3: pip install 'eunomia[oci]'\n"
