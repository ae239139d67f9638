# SPDX-License-Identifier: BSD-2-Clause
"""The server's file is read as a whole or refused with all that is wrong in it, each with its line and path."""

import json
import os
from pathlib import Path

import pytest

from eunomia.server import config
from eunomia.server.config import ConfigError, Declared, check, read
from eunomia.server.models import Filters, OutputRequest, TrackerRequest

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def write(tmp_path):
    def written(text: str, name: str = "server.toml") -> str:
        path = tmp_path / name
        path.write_text(text)
        path.chmod(0o644)
        return str(path)

    return written


def refused(path: str) -> list[str]:
    """Return what is wrong, without the file's name, which each sentence begins with."""
    with pytest.raises(ConfigError) as error:
        read(path)
    assert all(problem.startswith(path) for problem in error.value.problems)
    assert check(path) == error.value.problems
    return [problem.removeprefix(path).removeprefix(":").strip() for problem in error.value.problems]


def test_all_that_a_file_may_have_is_read(write, tmp_path):
    found = read(write("""
        [server]
        socket = "/run/mine.sock"
        group = "adm"
        listen = ["127.0.0.1:8527", "[::]:8443"]
        tls = { certificate = "tls/server.pem", key = "/etc/key.pem" }
        tokens = "tokens.json"
        state = "/var/lib/mine"
        interval = 0.5
        pin = true
        require_signed = false
        allow = ["registry.example.com/trackers/*"]
        [server.limits]
        trackers = 10
        rate = 1.5
        burst = 20
        requests = 30
        requests_each = 3
        body = 2048
        body_seconds = 5
        object = 4096
        objects = 1_048_576

        [[trackers]]
        id = "web"
        kind = "opensnoop"
        coalesce = 1
        duration = 30.5
        streams = ["open"]
        add = ["process.argv"]
        filters = { containers = ["web*"], pids = [1], traces_itself = true }
        outputs = [{ file = "web.jsonl", rotate = 100_000_000 }, { file = "/var/log/w.csv", format = "csv", columns = ["pid"] }]

        [[trackers]]
        id = "mine"
        object = "objects/mine.bpf.o"
        settings = { min_us = 100, "cfg.on" = true }
        programs = ["on_*"]
        attach = { on_call = ["/bin/sh:main"] }
        map_sizes = { counts = 1024 }
        events = { rb = "event" }
        ring_size = 1_048_576
    """)).config  # fmt: skip
    server = found.server
    assert (server.socket, server.group, server.listen) == ("/run/mine.sock", "adm", ["127.0.0.1:8527", "[::]:8443"])
    assert server.tls == config.Tls(f"{tmp_path}/tls/server.pem", "/etc/key.pem")
    assert (server.tokens, server.state, server.interval) == (f"{tmp_path}/tokens.json", "/var/lib/mine", 0.5)
    assert (server.pin, server.require_signed, server.allow) == (True, False, ["registry.example.com/trackers/*"])
    assert server.limits == config.Limits(10, 1.5, 20, 30, 3, 2048, 5, 4096, 1 << 20)
    web, mine = found.trackers
    assert web.request() == TrackerRequest(
        kind="opensnoop", id="web", coalesce=1, duration=30.5, streams=["open"], add=["process.argv"],
        filters=Filters(containers=["web*"], pids=[1], traces_itself=True),
        outputs=[
            OutputRequest(f"{tmp_path}/web.jsonl", rotate=100_000_000),
            OutputRequest("/var/log/w.csv", "csv", ["pid"]),
        ],
    )  # fmt: skip
    digest = f"sha256:{'a' * 64}"
    assert mine.object == f"{tmp_path}/objects/mine.bpf.o"
    assert mine.request(digest) == TrackerRequest(
        id="mine", object=digest, settings={"min_us": 100, "cfg.on": True}, programs=["on_*"],
        attach={"on_call": ["/bin/sh:main"]}, map_sizes={"counts": 1024}, events={"rb": "event"}, ring_size=1 << 20,
    )  # fmt: skip


def test_an_empty_file_has_what_is_usual(write):
    found = read(write("")).config
    assert found == config.Config()
    assert (found.server.socket, found.server.listen, found.server.pin) == ("/run/eunomia/eunomia.sock", [], False)
    assert not found.server.require_signed
    assert found.trackers == []


@pytest.mark.parametrize("object_", ["oci://registry.example.com/mine:1", f"sha256:{'0' * 64}"])
def test_an_object_that_is_no_file_stays_as_it_is(write, object_):
    (tracker,) = read(write(f'[[trackers]]\nid = "a"\nobject = "{object_}"')).config.trackers
    assert tracker.object == object_


def test_a_declared_tracker_has_all_fields_of_a_request():
    assert set(Declared.__struct_fields__) == set(TrackerRequest.__struct_fields__)


A = '[[trackers]]\nid = "a"\n'


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[serve]\n", "1: serve: there is no 'serve': did you mean server?"),
        ("[server]\nlissen = []\n", "2: server.lissen: there is no 'lissen': did you mean listen?"),
        ("[server]\n\npin = 1\n", "3: server.pin: 1 is not true or false"),
        ("[server]\ntls = { certificate = 'a' }\n", "2: server.tls.key: it is missing"),
        ("[server.limits]\nbody = 1\n", "2: server.limits.body: 1 is not a whole number of at least 1024"),
        ("[server]\nsocket = 'run/s'\n", "2: server.socket: 'run/s' does not begin with a slash"),
        (f"[server]\nsocket = '/{'x' * 107}'\n", "2: server.socket: a socket's path has at most 107 bytes"),
        ("[server]\nsocket = ''\n", "2: server.socket: it is empty, and so is listen: the server could not be reached"),
        ("[server]\nstate = 'here'\n", "2: server.state: 'here' does not begin with a slash"),
        ("[server]\nlisten = ['127.0.0.1']\n",
         "2: server.listen[0]: '127.0.0.1' is not of the form ADDRESS:PORT, as in 127.0.0.1:8527 or [::1]:8527"),
        ("[server]\nlisten = ['::1:80']\n",
         "2: server.listen[0]: '::1:80' is not of the form ADDRESS:PORT, as in 127.0.0.1:8527 or [::1]:8527"),
        ("[server]\nlisten = ['127.0.0.1:65536']\n",
         "2: server.listen[0]: '127.0.0.1:65536': the port is a number from 1 to 65535"),
        ("[server]\nlisten = ['127.0.0.1:1', '127.0.0.1:1']\n", "2: server.listen[1]: '127.0.0.1:1' is there twice"),
        ("[[trackers]]\nkind = 'process'\n", "1: trackers[0].id: it is missing"),
        (f"{A}kind = 'process'\n[[trackers]]\nid = 'B'\nkind = 'process'",
         "5: trackers[1].id: 'B' is not of the form: lower-case letters, digits, '.', '_' and '-', at most 63, the first a "
         "letter or a digit"),
        (f"{A}", "1: trackers[0]: it names neither a kind, as in kind = \"process\", nor an object"),
        (f"{A}kind = 'process'\nobject = 'a.o'", "4: trackers[0].object: it excludes kind: an object is a tracker by itself"),
        (f"{A}kind = 'proces'", "3: trackers[0].kind: there is no 'proces': did you mean process?"),
        (f"{A}kind = 'process'\nprograms = ['a']",
         "4: trackers[0].programs: it is for objects; process is a tracker, which chooses that itself"),
        (f"{A}kind = 'process'\n{A}kind = 'process'", "5: trackers[1].id: 'a' is the id of trackers[0] too"),
        (f"{A}kind = 'process'\n[trackers.filters]\nuids = [\n 1,\n 'root',\n]", "5: trackers[0].filters.uids[1]: 'root' is not a whole number"),
        (f"{A}kind = 'process'\n[trackers.filters]\nuid = [1]", "5: trackers[0].filters.uid: there is no 'uid': did you mean uids?"),
        (f"{A}kind = 'process'\nfilters = {{ host_only = true, containers_only = true }}",
         "4: trackers[0].filters.host_only: it excludes containers_only: the host is in no container"),
        (f"{A}kind = 'process'\nfilters = {{ host_only = true, pods = ['a'] }}",
         "4: trackers[0].filters.host_only: it excludes pods: the host is in no container"),
        (f"{A}kind = 'process'\nfilters = {{ labels = ['a=b', '=c'] }}",
         "4: trackers[0].filters.labels[1]: '=c' has no key; write it as in app=web, app!=web or app"),
        (f"{A}kind = 'process'\nfilters = {{ images = [' '] }}", "4: trackers[0].filters.images[0]: it is empty"),
        (f"{A}kind = 'process'\ncoalesce = 0.001", "4: trackers[0].coalesce: 0.001 is less than 0.01 seconds"),
        (f"{A}kind = 'process'\nduration = nan", "4: trackers[0].duration: nan is not a number of at least 0"),
        (f"{A}kind = 'process'\nduration = 2026-01-01", "4: trackers[0].duration: 2026-01-01 is not a number"),
        (f"{A}kind = 'process'\noutputs = [{{ file = '/x/a' }}, {{ file = '/x/../x/a' }}]",
         "4: trackers[0].outputs[1].file: '/x/../x/a' is written to by trackers[0].outputs[0] too"),
        ("trackers = 5", "1: trackers: 5 is not a list"),
        ("trackers = [5]", "1: trackers[0]: 5 is not a table"),
        ("a = \n", "1: not TOML: invalid value (column 5)"),
        ("[server]\na = 1\na = 2", "not TOML: cannot overwrite a value at the end of document"),
        ("a = '", "not TOML: expected \"'\" at the end of document"),
        ("a = " + "[" * 100_000, "it has lists or tables in each other that are too many"),
        (f"a = {'9' * 5000}", "it has a number of thousands of digits"),
    ],
)  # fmt: skip
def test_a_mistake_is_said_with_its_line_and_path(write, text, said):
    (sentence,) = refused(write(text))
    assert sentence.startswith(said), sentence


def test_all_mistakes_are_said_at_once(write):
    path = write("""[server]
listen = ["0.0.0.0:80"]
pin = "yes"
[[trackers]]
id = "a"
knd = "process"
[[trackers]]
id = "b"
kind = "process"
filters = { uids = ["root"], pid = 3 }
""")
    assert [one.partition(": ")[0] for one in refused(path)] == ["3", "6", "10", "10"]
    assert "trackers[1].id" in " ".join(refused(write('[[trackers]]\nid = "a"\nkind = 1\n[[trackers]]\nid = "B"\nkind = "process"')))


def test_of_a_thousand_mistakes_a_hundred_are_said(write):
    said = refused(write("".join(f"[[trackers]]\nid = 't{n}'\nkind = 'process'\nknd = 1\n" for n in range(1000))))
    assert said[:2] == [f"{line}: trackers[{n}].knd: there is no 'knd': did you mean kind?" for n, line in ((0, 4), (1, 8))]
    assert (len(said), said[-1]) == (101, "and 900 more")


@pytest.mark.parametrize("host", ["192.0.2.1", "[::]", "example.com"])
def test_without_tls_only_this_machine_is_served(write, host):
    (said,) = refused(write(f'[server]\nlisten = ["{host}:80"]'))
    assert "can be reached from other machines: give the server [server.tls], or listen on 127.0.0.1" in said
    tls = '[server.tls]\ncertificate = "c"\nkey = "k"'
    assert read(write(f'[server]\nlisten = ["{host}:80"]\n{tls}')).config.server.listen == [f"{host}:80"]


@pytest.mark.parametrize("host", ["127.0.0.1", "127.1.2.3", "localhost", "[::1]"])
def test_the_loopback_is_this_machine(write, host):
    assert read(write(f'[server]\nlisten = ["{host}:80"]')).config.server.listen == [f"{host}:80"]


class TestAFileThatIsNotReadAtAll:
    def test_is_missing(self, tmp_path):
        assert refused(f"{tmp_path}/none.toml") == ["No such file or directory"]

    def test_is_a_directory_a_device_or_a_pipe(self, tmp_path):
        os.mkfifo(tmp_path / "pipe")
        for path in (tmp_path, "/dev/zero", tmp_path / "pipe"):
            assert refused(str(path)) == ["it is not a regular file"]

    def test_is_too_large(self, write):
        assert refused(write("#" * (1 << 20) + "\n")) == ["it has more than 1 MiB"]

    def test_is_not_utf_8(self, write):
        path = write("")
        Path(path).write_bytes(b'[server]\n# fine\ngroup = "\xff"\n')
        assert refused(path) == ["3: it is not UTF-8"]

    def test_may_be_changed_by_everybody(self, write):
        path = write("")
        os.chmod(path, 0o666)
        (said,) = refused(path)
        assert said == "everybody may change it, and what it says runs in the kernel: chmod o-w it"

    def test_is_json_and_broken(self, write):
        assert refused(write('{"server": {},\n}', "a.json")) == [
            "2: not JSON: Expecting property name enclosed in double quotes (column 1)"
        ]
        assert refused(write("[]", "a.json")) == ["it is not a JSON object"]
        assert refused(write('{"server": {"pin": true, "pin": false}}', "a.json")) == ["'pin' is given twice"]


def test_our_form_may_be_json_too(write):
    data = {"server": {"pin": True}, "trackers": [{"id": "a", "kind": "process"}]}
    found = read(write(json.dumps(data), "a.json"))
    assert (found.config.server.pin, found.config.trackers[0].kind, found.translated) == (True, "process", "")


class TestCheck:
    def test_finds_nothing_wrong_with_a_good_file(self, write, tmp_path):
        (tmp_path / "a.bpf.o").write_bytes(b"")
        assert check(write(f'{A}object = "a.bpf.o"\noutputs = [{{ file = "a.jsonl" }}]')) == []

    def test_names_what_is_not_there(self, write, tmp_path):
        path = write(f"""[server]
group = "no-such-group"
tls = {{ certificate = "c.pem", key = "{tmp_path}" }}
{A}object = "a.bpf.o"
outputs = [{{ file = "logs/a.jsonl" }}]
""")
        assert [said.removeprefix(f"{path}: ") for said in check(path)] == [
            f"server.tls.certificate: {tmp_path}/c.pem: No such file or directory",
            f"server.tls.key: {tmp_path}: it is not a regular file",
            "server.group: there is no group 'no-such-group' on this machine",
            f"trackers[0].object: {tmp_path}/a.bpf.o: No such file or directory",
            f"trackers[0].outputs[0].file: there is no directory {tmp_path}/logs",
        ]


@pytest.mark.parametrize("example", sorted(ROOT.glob("docs/examples/*.toml")), ids=lambda path: path.name)
def test_the_examples_of_the_documentation_are_read(example):
    assert read(str(example)).config.trackers


def test_there_are_examples():
    assert list(ROOT.glob("docs/examples/*.toml"))


PAGE = (ROOT / "docs/configuration.md").read_text()


@pytest.mark.parametrize(
    ("section", "struct"),
    [("## `[server]`", config.Server), ("## `[server.limits]`", config.Limits), ("## `[[trackers]]`", Declared)],
)
def test_the_page_has_each_key_and_no_other(section, struct):
    text = PAGE.partition(section)[2].partition("\n## ")[0]
    rows = [line.split("|")[1] for line in text.splitlines() if line.startswith("| `")]
    named = {key.strip().strip("`") for row in rows for key in row.split(",")}
    assert named == set(struct.__struct_fields__) - {"limits"}


def test_the_example_has_each_key_of_the_server():
    example = (ROOT / "docs/examples/server.toml").read_text()
    for key in (*config.Server.__struct_fields__, *config.Limits.__struct_fields__):
        assert f"{key} = " in example or key == "limits", key


def test_the_example_says_what_is_usual():
    """What is not a comment there is what a file without it has, except for what has no usual value."""
    example = read(str(ROOT / "docs/examples/server.toml")).config.server
    assert config.msgspec.structs.replace(example, listen=[]) == config.Server()


def test_the_page_shows_what_is_really_said(write):
    path = write("""
[server]
listen = ["192.0.2.1:80"]
[[trackers]]
id = "web"
kind = "opensnoop"

[trackers.filters]
uid = [0]
[[trackers]]
id = "all"
kind = "opensnop"
""")
    shown = PAGE.partition("each with its line and its path:\n\n")[2].partition("\n\n")[0]
    assert [said.replace(path, "    /etc/eunomia/server.toml") for said in check(path)] == shown.splitlines()
