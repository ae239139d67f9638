# SPDX-License-Identifier: BSD-2-Clause
"""What does not fit is named by its path, with what was expected and what may have been meant."""

import pytest

from eunomia.server.misfits import fitted
from eunomia.server.models import TrackerRequest
from eunomia.server.toml_lines import line_of


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ({"filters": {"uids": ["root"]}}, "filters.uids[0]: 'root' is not a whole number"),
        ({"filters": {"uids": [0, -1]}}, "filters.uids[1]: -1 is not a whole number of at least 0"),
        ({"filters": {"pids": 1}}, "filters.pids: 1 is not a list"),
        ({"filters": {"pid": [1]}}, "filters.pid: there is no 'pid': did you mean pids?"),
        ({"filters": {"comms": [""]}}, "filters.comms[0]: '' is not text that is not empty"),
        ({"filters": []}, "filters: an empty list is not a table"),
        ({"kind": True}, "kind: true is not text"),
        ({"knd": "process"}, "knd: there is no 'knd': did you mean kind?"),
        ({"id": "Web Server"}, "id: 'Web Server' is not of the form: lower-case letters, digits, '.', '_' and '-', at most 63, "
         "the first a letter or a digit"),
        ({"object": "my.o"}, "object: 'my.o' is not of the form: sha256: and 64 hexadecimal digits"),
        ({"duration": float("nan")}, "duration: nan is not a number of at least 0"),
        ({"duration": "30s"}, "duration: '30s' is not a number"),
        ({"coalesce": 61}, "coalesce: 61 is not a number of at most 60"),
        ({"outputs": [{"file": "/a"}, {"format": "csv"}]}, "outputs[1].file: it is missing"),
        ({"outputs": [{"file": "/a", "format": "jsn"}]}, "outputs[0].format: there is no 'jsn': did you mean json?"),
        ({"outputs": [{"file": "/a"}] * 17}, "outputs: a list of 17 is not a list of at most 16 entries"),
        ({"settings": {"a": 1, "b": [1]}}, "settings.b: a list of 1 is not true or false or a whole number or a number or text"),
        ({"attach": {"good": ["x"], "bad": ["y", ""]}}, "attach.bad[1]: '' is not text that is not empty"),
        ({"map_sizes": {"m": 1, "n": 0}}, "map_sizes.n: 0 is not a whole number of at least 1"),
        ({"kind": "x" * 64}, f"kind: '{'x' * 40}...' is not text of at most 63 characters"),
    ],
)  # fmt: skip
def test_a_place_and_a_reason(value, said):
    made, found = fitted(value, TrackerRequest)
    assert (made, [str(one) for one in found]) == (None, [said])


def test_all_that_is_wrong_is_said_at_once():
    value = {"knd": "x", "duration": "long", "filters": {"pid": [1], "uids": [1, "x"], "comms": "sh"}, "outputs": [{}]}
    before = repr(value)
    _, found = fitted(value, TrackerRequest, ("trackers", 3))
    assert {str(one).partition(": ")[0] for one in found} == {
        "trackers[3].knd", "trackers[3].duration", "trackers[3].filters.pid", "trackers[3].filters.uids[1]",
        "trackers[3].filters.comms", "trackers[3].outputs[0].file",
    }  # fmt: skip
    assert repr(value) == before


def test_what_fits_is_returned():
    made, found = fitted({"kind": "process", "settings": {"a": 1.5, "b": True}}, TrackerRequest)
    assert (made, found) == (TrackerRequest(kind="process", settings={"a": 1.5, "b": True}), [])


TOML = '''\
# a comment, with a comma,
[server]
socket = "/run/s"   # why, so,
allow = [
    "a",
    # not b
    "c",
]

[[trackers]]
id = "one"
kind = "process"

[[trackers]]
id = "two"
note = """
[[trackers]]
id = "no statement"
"""
[trackers.filters]
uids = [1,
  2]
[[trackers]]
outputs = [{ file = "/a" }, { file = "/b" }]
settings."odd.key" = 5
[trackers.filters]
pids = [7]
[[trackers]]
[[trackers.outputs]]
file = "a"
[[trackers.outputs]]
file = "b"
[a.b]
c.d = 1
[a]
e = 2
'''


@pytest.mark.parametrize(
    ("path", "line"),
    [
        (("server",), 2),
        (("server", "socket"), 3),
        (("server", "allow"), 4),
        (("server", "allow", 1), 4),
        (("server", "missing"), 2),
        (("trackers", 0), 10),
        (("trackers", 0, "kind"), 12),
        (("trackers", 1, "id"), 15),
        (("trackers", 1, "note"), 16),
        (("trackers", 1, "kind"), 14),
        (("trackers", 1, "filters"), 20),
        (("trackers", 1, "filters", "uids", 1), 21),
        (("trackers", 2), 23),
        (("trackers", 2, "outputs", 1, "file"), 24),
        (("trackers", 2, "settings", "odd.key"), 25),
        (("trackers", 2, "filters", "pids", 0), 27),
        (("trackers", 2, "outputs", 0), 24),
        (("trackers", 3), 28),
        (("trackers", 3, "outputs", 0, "file"), 30),
        (("trackers", 3, "outputs", 1, "file"), 32),
        (("trackers", 3, "outputs", 1), 31),
        (("a", "b", "c", "d"), 34),
        (("a", "e"), 36),
        (("a",), 33),
        (("nothing",), None),
        ((), None),
    ],
)
def test_the_line_of_a_value_is_where_its_statement_begins(path, line):
    assert line_of(TOML, path) == line
    assert line_of(TOML.replace("\n", "\r\n"), path) == line


def test_a_line_in_a_long_file_is_found_or_given_up_in_bounded_work():
    many = "".join(f'[[trackers]]\nid = "t{i}"\nkind = "process"\n' for i in range(500))
    assert line_of(many, ("trackers", 499, "kind")) == 1500
    endless = "a = [\n" + "1\n,\n" * 20_000 + "]\nb = 1\n"
    assert line_of(endless, ("b",)) is None
