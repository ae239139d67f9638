# SPDX-License-Identifier: BSD-2-Clause
"""What may run: a decision that depends on nothing but its arguments."""

import subprocess

import pytest

from eunomia.oci import settings
from eunomia.oci.errors import DistributionError
from eunomia.oci.keys import read_public
from eunomia.oci.policy import Policy, Subject, decide
from eunomia.oci.reference import digest_of
from eunomia.oci.signatures import Signature, payload
from tests import needs

NAME = "registry.example.com/trackers/mine"
DIGEST = digest_of(b"the artefact")
SUBJECT = Subject(NAME, DIGEST)


@pytest.fixture
def signed(keys):
    """signed(bytes) -> the bytes and their signature, by openssl."""
    openssl = needs.program("openssl", "openssl")

    def sign(data, key=keys.private):
        command = [openssl, "dgst", "-sha256", "-sign", key]
        return Signature(data, subprocess.run(command, input=data, check=True, capture_output=True).stdout)

    return sign


@pytest.fixture
def policy(keys):
    return Policy(keys=(read_public(str(keys.public)),))


def test_nothing_may_run_by_default(signed):
    decision = decide(Policy(), SUBJECT, [signed(payload(NAME, DIGEST))])
    assert (decision.allowed, decision.signer) == (False, "")
    assert "there is no key" in decision.why


def test_what_a_known_key_signed_may_run(policy, signed, keys):
    decision = decide(policy, SUBJECT, [signed(payload(NAME, DIGEST))])
    assert (decision.allowed, decision.signer, decision.identity) == (True, str(keys.public), NAME)


def test_one_good_signature_among_bad_ones_is_enough(policy, signed, others_keys):
    bad = signed(payload(NAME, DIGEST), others_keys.private)
    good = signed(payload(NAME, DIGEST))
    assert decide(policy, SUBJECT, [bad, Signature(b"", b""), good]).allowed
    decision = decide(policy, SUBJECT, [bad])
    assert not decision.allowed
    assert decision.why == "no signature of it is accepted: no known key made it"


def test_an_upload_may_be_signed_itself(policy, signed):
    data = b"the artefact"
    assert decide(policy, Subject("upload", digest_of(data)), [signed(data)]).allowed
    assert not decide(policy, Subject("upload", digest_of(b"another")), [signed(data)]).allowed


def test_without_the_need_of_a_signature_the_list_still_holds(policy):
    relaxed = Policy(require_signed=False)
    assert decide(relaxed, SUBJECT, []).allowed
    assert not decide(relaxed._replace(allow=("registry.example.com/other/*",)), SUBJECT, []).allowed


@pytest.mark.parametrize(
    ("entry", "allowed"),
    [
        (NAME, True),
        ("registry.example.com/trackers/*", True),
        ("*/mine", True),
        (f"{NAME}@{DIGEST}", True),
        (DIGEST, True),
        ("registry.example.com/trackers/min", False),
        ("registry.example.com.evil.example/*", False),
        (f"{NAME}@{digest_of(b'other')}", False),
        (f"registry.example.com/other@{DIGEST}", False),
        (digest_of(b"other"), False),
        (f"{NAME}:1.0", False),
    ],
)
def test_the_list_names_artefacts_by_name_and_digest(signed, policy, entry, allowed):
    decision = decide(policy._replace(allow=(entry,)), SUBJECT, [signed(payload(NAME, DIGEST))])
    assert decision.allowed is allowed


def test_being_on_the_list_does_not_replace_a_signature(policy):
    assert not decide(policy._replace(allow=(NAME,)), SUBJECT, []).allowed


@pytest.mark.parametrize(
    ("identity", "allowed"),
    [(NAME, True), (f"{NAME}:1.0", True), (f"{NAME}@{DIGEST}", True), ("registry.example.com/trackers/other", False)],
)
def test_the_name_that_the_signer_gave_counts_if_it_is_asked_for(policy, signed, identity, allowed):
    signature = signed(payload(identity, DIGEST))
    assert decide(policy, SUBJECT, [signature]).allowed, "cosign ignores it, as its specification says"
    assert decide(policy._replace(match_identity=True), SUBJECT, [signature]).allowed is allowed


class TestTheFile:
    def test_sets_the_policy(self, tmp_path, keys):
        file = tmp_path / "oci.toml"
        file.write_text(
            f'keys = ["{keys.public.parent}/*.pub"]\nallow = ["localhost/*"]\nplain_http = ["10.0.0.1:5000"]\n'
            "match_identity = true\ncache_size = 1000\n"
        )
        known = settings.read(file=str(file))
        assert [key.name for key in known.policy.keys] == [str(keys.public)]
        assert (known.policy.require_signed, known.policy.match_identity) == (True, True)
        assert (known.policy.allow, known.plain_http, known.cache.bound) == (("localhost/*",), ("10.0.0.1:5000",), 1000)

    def test_requires_signatures_if_it_is_not_there(self, tmp_path):
        known = settings.read(file=str(tmp_path / "none"))
        assert known.policy.require_signed

    def test_relaxes_only_what_it_names(self, tmp_path):
        file = tmp_path / "oci.toml"
        file.write_text("require_signed = false\n")
        assert not settings.read(file=str(file)).policy.require_signed

    @pytest.mark.parametrize(
        ("text", "said"), [("requires_signed = false", "requires_signed"), ("keys = 5", "keys"), ("=", "line 1")]
    )
    def test_is_refused_with_the_place_of_a_mistake(self, tmp_path, text, said):
        file = tmp_path / "oci.toml"
        file.write_text(text)
        with pytest.raises(DistributionError, match=said):
            settings.read(file=str(file))

    def test_and_keys_that_anybody_may_write_are_refused(self, tmp_path, keys):
        file, key = tmp_path / "oci.toml", tmp_path / "any.pub"
        key.write_bytes(keys.public.read_bytes())
        file.write_text(f'keys = ["{tmp_path}/*.pub"]')
        for open_ in (key, file):
            open_.chmod(0o666)
            with pytest.raises(DistributionError, match=f"{open_.name}: others may write it"):
                settings.read(file=str(file))
            open_.chmod(0o644)
        assert settings.read(file=str(file)).policy.keys
        tmp_path.chmod(0o777)
        with pytest.raises(DistributionError, match=f"{tmp_path}: others may write it"):
            settings.read(file=str(file))
