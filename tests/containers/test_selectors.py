# SPDX-License-Identifier: BSD-2-Clause
"""Matches of selectors, container by container."""

import pytest

from eunomia.containers.selection import CHOSEN, Selection
from eunomia.containers.selectors import Selectors
from eunomia.identity import ON_HOST, PENDING, RESOLVED, Container, Identity, Pod
from tests.containers.stage import DB, INNER, WEB

FRONT = Identity(
    RESOLVED,
    Container(WEB, "web-1", "registry.example:5000/team/nginx:1.27", "containerd", labels=(("app", "shop"),)),
    Pod("front-7d4b", "shop", "u-1", labels=(("tier", "front"), ("rel/ease", "a=b"))),
)
BACK = Identity(RESOLVED, Container(DB, "db", "postgres@sha256:" + 64 * "0", "docker", image_id="sha256:" + 64 * "1"))


@pytest.mark.parametrize(
    ("selectors", "front", "back"),
    [
        (Selectors(("web-1",)), True, False),
        (Selectors(("web-*", "d?")), True, True),
        (Selectors(("[a-e]b",)), False, True),
        (Selectors(("WEB-*",)), False, False),
        (Selectors((WEB[:12],)), True, False),
        (Selectors(images=("nginx",)), True, False),
        (Selectors(images=("nginx:1.27",)), True, False),
        (Selectors(images=("nginx:1.2",)), False, False),
        (Selectors(images=("registry.example:5000/team/nginx",)), True, False),
        (Selectors(images=("*/team/*",)), True, False),
        (Selectors(images=("postgres",)), False, True),
        (Selectors(images=("sha256:11*",)), False, True),
        (Selectors(pods=("front-*",)), True, False),
        (Selectors(pods=("shop/front-7d4b",)), True, False),
        (Selectors(pods=("other/front-7d4b",)), False, False),
        (Selectors(namespaces=("sh*",)), True, False),
        (Selectors(labels=("app=shop",)), True, False),
        (Selectors(labels=("tier=f*",)), True, False),
        (Selectors(labels=("rel/ease=a=b",)), True, False),
        (Selectors(labels=("tier",)), True, False),
        (Selectors(labels=("tier!=back",)), True, True),
        (Selectors(labels=("tier!=front",)), False, True),
        (Selectors(labels=("app=shop", "tier=back")), False, False),
        (Selectors(labels=("app=shop", "tier=front")), True, False),
        (Selectors(runtimes=("docker", "podman")), False, True),
        (Selectors(("web-1", "db"), namespaces=("shop",)), True, False),
    ],
)
def test_a_selector_matches(selectors, front, back):
    assert (selectors.match()(FRONT), selectors.match()(BACK), selectors.match()(ON_HOST)) == (
        front, back, False,
    )  # fmt: skip


@pytest.mark.parametrize("selectors", [Selectors(("",)), Selectors(images=(" ",)), Selectors(labels=("=x",))])
def test_an_empty_value_is_refused(selectors):
    with pytest.raises(ValueError, match=r"is empty|has no key"):
        selectors.match()


def test_what_is_not_known_yet_matches_by_its_id_alone():
    pending = Identity(PENDING, Container(WEB))
    assert Selectors((WEB,)).match()(pending)
    assert not Selectors(images=("*",)).match()(pending._replace(container=Container(WEB)))


def test_what_runs_in_a_chosen_container_is_chosen_too():
    chosen = Selection(Selectors(("web-1",)), CHOSEN)
    inner = Identity(RESOLVED, Container(INNER, "inner"), parents=(WEB,))
    chosen(8, inner, "/docker/a/docker/b")
    assert chosen.ids == set()
    chosen(7, FRONT, "/docker/a")
    chosen(8, inner, "/docker/a/docker/b")
    assert chosen.ids == {7, 8}
    chosen(7, None, "/docker/a")
    assert chosen.ids == {8}


def test_a_container_that_came_to_match_includes_the_containers_inside():
    chosen = Selection(Selectors(("web-1",)), CHOSEN)
    chosen(7, FRONT, "/docker/a")
    chosen(7, FRONT._replace(container=FRONT.container._replace(name="web-2")), "/docker/a")
    assert chosen.ids == set()


@pytest.mark.parametrize(
    ("image", "word"),
    [
        ("nginx", "nginx"),
        ("nginx", "nginx:latest"),
        ("nginx", "library/nginx"),
        ("nginx", "docker.io/library/nginx:latest"),
        ("nginx", "docker.io/nginx"),
        ("docker.io/library/nginx:1.27", "nginx:1.27"),
        ("team/web:2", "docker.io/team/web:2"),
        ("docker.io/team/web:2", "team/web"),
        ("localhost:5000/team/web:2", "team/web:2"),
        ("localhost/web", "web:latest"),
        ("nginx", "111111111111"),
        ("nginx", "sha256:1111111"),
        ("nginx", f"sha256:{'1' * 64}"),
        ("sha256:" + "1" * 64, "11111111"),
        ("nginx", "222222222222"),
        ("nginx:1.27", f"nginx@sha256:{'2' * 64}"),
        ("nginx:1.27", f"docker.io/library/nginx@sha256:{'2' * 64}"),
    ],
)
def test_an_image_is_matched_by_each_of_its_names(image, word):
    one = Container(WEB, "web", image, "docker", image_id=f"sha256:{'1' * 64}", image_digest=f"sha256:{'2' * 64}")
    assert Selectors(images=(word,)).match()(Identity(RESOLVED, one))


@pytest.mark.parametrize("word", ["nginx:latest", "nginx:1", "library/nginx", "docker.io/nginx", "111", "1112", "inx", "team"])
def test_an_image_is_not_matched_by_anothers_names(word):
    one = Container(WEB, "web", "quay.io/team/nginx:1.27", "docker", image_id=f"sha256:{'1' * 64}")
    assert not Selectors(images=(word,)).match()(Identity(RESOLVED, one))


@pytest.mark.parametrize("word", ["cri-o", "crio", "cri*"])
def test_crio_goes_by_either_name(word):
    assert Selectors(runtimes=(word,)).match()(Identity(RESOLVED, Container(WEB, "web", runtime="cri-o")))
