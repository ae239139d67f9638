# SPDX-License-Identifier: BSD-2-Clause
import pytest

from eunomia.containers.paths import candidates
from eunomia.containers.runtimes.docker import Docker
from tests.containers.stage import DB, INNER, WEB


def found(path):
    return [(c.id, c.path, c.runtime) for c in candidates(path, [Docker([])])]


@pytest.mark.parametrize(
    "path",
    [
        f"/docker/{WEB}",
        f"/system.slice/docker-{WEB}.scope",
        f"/docker-{WEB}.scope",
        f"/shop.slice/shop-eu.slice/docker-{WEB}.scope",
    ],
)
def test_dockers_own_cgroups_are_recognised_by_their_names(path):
    assert found(path) == [(WEB, path, "docker")]


def test_an_id_below_a_custom_parent_may_be_a_container_but_no_runtime_vouches_for_it():
    assert found(f"/foo/{WEB}") == [(WEB, f"/foo/{WEB}", "")]


@pytest.mark.parametrize("below", ["/init.scope", "/system.slice/cron.service", "/" + "d4" * 16])
def test_cgroups_in_a_container_belong_to_it(below):
    assert found(f"/docker/{WEB}{below}") == [(WEB, f"/docker/{WEB}", "docker")]


def test_nested_containers_are_listed_from_the_outermost_to_the_innermost():
    assert [c[0] for c in found(f"/docker/{WEB}/docker/{DB}/x/{INNER}/init.scope")] == [WEB, DB, INNER]


@pytest.mark.parametrize(
    "path",
    [
        "/",
        "",
        "/docker",
        "/docker/buildkit/o2x",
        "/process_api/b1987532810a3f375b3536514677d0b5",
        f"/docker/{WEB[:-1]}",
        f"/docker/{WEB}0",
        f"/docker/{WEB[:-1]}g",
        f"/docker/{WEB.upper()}",
        f"/docker-{WEB[:-1]}.scope",
        f"/dockerx{WEB}.scope",
        f"/docker/ {WEB}",
        f"/docker/{WEB[:-1]}\n",
    ],
)
def test_what_only_resembles_a_container_is_none(path):
    assert found(path) == []
