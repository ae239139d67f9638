# SPDX-License-Identifier: BSD-2-Clause
import pytest

from eunomia.containers.registry import Registry
from eunomia.containers.runtimes.docker import DataRoot, Docker
from eunomia.containers.selection import CHOSEN, CONTAINERS, HOST, Selection
from eunomia.identity import ON_HOST, RESOLVED, Container, Identity
from tests.containers.stage import DB, WEB, Clock, batch, write_config


@pytest.fixture
def registry(tmp_path):
    (tmp_path / "cgroup").mkdir()
    return Registry([Docker([DataRoot("/", str(tmp_path))])], mount=str(tmp_path / "cgroup"), clock=Clock())


def test_a_name_follows_containers_that_start_and_end(tmp_path, registry):
    calls = []
    chosen = Selection(
        ["web"], added=lambda i: calls.append(("+", i)), removed=lambda i: calls.append(("-", i))
    )
    registry.subscribe(chosen)
    write_config(tmp_path, WEB)
    write_config(tmp_path, DB, ID=DB, Name="/db")
    registry.feed(
        [batch("made", (7, f"/docker/{WEB}"), (8, f"/docker/{DB}"), (9, f"/docker/{WEB}/init.scope"))]
    )
    assert chosen.ids == {7, 9}
    registry.feed([batch("removed", (9, f"/docker/{WEB}/init.scope"), (7, f"/docker/{WEB}"))])
    assert calls == [("+", 7), ("-", 8), ("+", 9), ("-", 9), ("-", 7)]


def test_a_container_joins_as_soon_as_its_name_is_known(tmp_path, registry):
    chosen = Selection(["web"])
    registry.subscribe(chosen)
    registry.feed([batch("made", (7, f"/docker/{WEB}"))])
    assert chosen.ids == set()
    write_config(tmp_path, WEB)
    registry.tick(registry.next_deadline())
    assert chosen.ids == {7}


def test_the_kernel_drops_only_cgroups_that_certainly_do_not_match(tmp_path, registry):
    """It holds each new cgroup to be wanted until then."""
    let_go = []
    registry.subscribe(Selection(["web"], removed=let_go.append))
    write_config(tmp_path, DB, ID=DB, Name="/db")
    registry.feed([batch("made", (6, "/x"), (7, f"/docker/{WEB}"), (8, f"/docker/{DB}"))])
    assert let_go == [6, 8]
    write_config(tmp_path, WEB, Name="/other")
    registry.tick(registry.next_deadline())
    assert let_go == [6, 8, 7]


def test_rows_of_a_container_in_one_that_was_removed_still_pass(tmp_path, registry):
    chosen = Selection(["web"])
    registry.subscribe(chosen)
    write_config(tmp_path, WEB)
    write_config(tmp_path, DB, ID=DB, Name="/inner")
    paths = (8, f"/docker/{WEB}/docker/{DB}"), (7, f"/docker/{WEB}")
    registry.feed([batch("made", *reversed(paths))])
    registry.feed([batch("removed", *paths)])
    assert chosen.ids == set()
    assert [chosen.passes(registry[i]) for i, _ in paths] == [True, True]


def test_rows_of_a_container_in_one_that_came_back_under_another_name_do_not_pass(tmp_path, registry):
    chosen = Selection(["web"])
    registry.subscribe(chosen)
    write_config(tmp_path, WEB)
    write_config(tmp_path, DB, ID=DB, Name="/inner")
    outer, inner = (7, f"/docker/{WEB}"), (8, f"/docker/{WEB}/docker/{DB}")
    registry.feed([batch("made", outer)])
    registry.feed([batch("removed", outer)])
    write_config(tmp_path, WEB, Name="/other")
    registry.feed([batch("made", (17, outer[1]), inner)])
    assert not chosen.passes(registry[8])


def test_an_id_is_followed_before_the_name_is_known(registry):
    chosen = Selection([WEB[:12]])
    registry.subscribe(chosen)
    registry.feed([batch("made", (7, f"/docker/{WEB}"), (8, f"/docker/{DB}"))])
    assert chosen.ids == {7}


@pytest.mark.parametrize("mode", [CONTAINERS, HOST])
def test_containers_only_and_host_only_hold_every_containers_cgroups_pending_ones_too(registry, mode):
    chosen = Selection(mode=mode)
    registry.subscribe(chosen)
    registry.feed(
        [batch("made", (6, "/x"), (7, f"/docker/{WEB}"), (8, f"/docker/{WEB}/a"), (9, f"/foo/{DB}"))]
    )
    assert chosen.ids == {7, 8, 9}
    assert chosen.passes(ON_HOST) == (mode == HOST)
    assert chosen.passes(registry[8]) == (mode == CONTAINERS)


def test_a_rename_moves_a_container_out_of_the_set(tmp_path, registry):
    chosen = Selection(["web"])
    registry.subscribe(chosen)
    write_config(tmp_path, WEB)
    registry.feed([batch("made", (7, f"/docker/{WEB}"))])
    write_config(tmp_path, WEB, Name="/other")
    registry.recheck()
    assert chosen.ids == set()


@pytest.mark.parametrize(
    ("wanted", "matches"),
    [
        ("web", True),
        ("/web", True),
        (WEB, True),
        (WEB.upper(), True),
        (WEB[:4], True),
        (WEB[:3], False),
        (WEB[1:9], False),
        ("we", False),
        ("Web", False),
        ("web2", False),
        (WEB + "0", False),
    ],
)
def test_names_match_whole_and_ids_from_their_start(wanted, matches):
    assert Selection([wanted]).holds(Identity(RESOLVED, Container(WEB, "web", "i", "docker"))) is matches


@pytest.mark.parametrize(
    ("wanted", "mode", "why"),
    [
        ([], CHOSEN, "needs some"),
        (["web"], HOST, "needs some"),
        (["", "web"], CHOSEN, "is empty"),
        (["web"], "odd", "expected 'chosen'"),
    ],
)
def test_a_selection_that_makes_no_sense_is_refused(wanted, mode, why):
    with pytest.raises(ValueError, match=why):
        Selection(wanted, mode)
