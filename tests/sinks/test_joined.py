# SPDX-License-Identifier: BSD-2-Clause
"""Columns of identities beyond the usual ones."""

import csv
import io
import json

import pytest

from eunomia.identity import RESOLVED, Container, Identity, Mount, Pod

HOSTILE = "\x1b[2J\u202e\n\x9b,\"'"
FULL = Identity(
    RESOLVED,
    Container(
        "5a" * 32, "cart", "shop:2", "containerd", labels=(("app", "shop"), ("evil", HOSTILE)),
        mounts=(Mount("/srv", "/data", "bind", False),), capabilities=("CAP_CHOWN",), privileged=False,
        addresses=("10.1.2.3",), created=1_795_464_329_000_000_000, restarts=0, pid=77,
    ),
    Pod("shop-7d9", "prod", "u-1", labels=(("tier", "front"),), owner_kind="Deployment", owner_name="shop"),
    ("4f" * 32,),
)  # fmt: skip
NAMES = [
    "container.labels", "container.labels.app", "container.labels.none", "container.mounts", "container.capabilities",
    "container.privileged", "container.addresses", "container.created", "container.started", "container.restarts",
    "container.pid", "container.parents", "pod.labels.tier", "pod.owner_kind", "pod.node",
]  # fmt: skip


def shown(sample, written, kind, identity, columns=NAMES):
    return written(kind, [sample.FORK], [sample.batch(sample.FORK, [{}], [identity])], columns=columns).text


def test_json_holds_them_in_their_objects(sample, written):
    event = json.loads(shown(sample, written, "json", FULL))
    assert event == {
        "container": {
            "labels": {"app": "shop", "evil": HOSTILE}, "labels.app": "shop", "labels.none": "",
            "mounts": [{"source": "/srv", "destination": "/data", "type": "bind", "writable": False}],
            "capabilities": ["CAP_CHOWN"], "privileged": False, "addresses": ["10.1.2.3"],
            "created": "2026-11-23T20:05:29.000000000Z", "started": "", "restarts": 0, "pid": 77,
            "parents": ["4f" * 32],
        },
        "pod": {"labels.tier": "front", "owner_kind": "Deployment", "node": ""},
    }  # fmt: skip


def test_csv_holds_one_cell_for_each(sample, written):
    ((_, *names), row) = csv.reader(io.StringIO(shown(sample, written, "csv", FULL, ["time", *NAMES])))
    cells = dict(zip(names, row[1:], strict=True))
    assert list(cells) == NAMES
    assert cells["container.labels.app"] == "shop"
    assert json.loads(cells["container.mounts"])[0]["source"] == "/srv"
    assert (cells["container.privileged"], cells["container.restarts"], cells["container.started"]) == ("false", "0", "")


@pytest.mark.parametrize("kind", ["table", "csv", "json"])
def test_labels_bring_no_escape_sequence_and_no_line_of_their_own(sample, written, kind):
    text = shown(sample, written, kind, FULL)
    assert text.count("\n") == (1 if kind == "json" else 2)
    assert all(c.isprintable() or c in "\r\n" for c in text)


def test_a_noun_with_a_star_is_all_of_its_columns(sample, written):
    event = json.loads(shown(sample, written, "json", FULL, ["pod.*"]))
    assert list(event["pod"]) == list(Pod._fields)


def test_the_host_has_none_of_them(sample, written):
    assert json.loads(shown(sample, written, "json", Identity("host"))) == {}
    assert set(shown(sample, written, "table", Identity("host")).split("\n")[1].split()) == {"-"}


def test_a_column_that_is_none_is_refused_with_its_like(sample, written):
    with pytest.raises(ValueError, match=r"did you mean .container\.labels."):
        shown(sample, written, "json", FULL, ["container.label"])
