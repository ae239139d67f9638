# SPDX-License-Identifier: BSD-2-Clause
"""Commands that talk to a real server: they start, show, update and stop trackers, and say what is wrong."""

import json
import os
import re
import signal
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cli.conftest import EUNOMIA, GOOD
from tests.cli.test_completion import complete
from tests.client.conftest import over_tls, relay
from tests.server.conftest import server

__all__ = ["over_tls", "relay", "server"]


@pytest.fixture
def remote(eunomia, server):
    """remote("ps", ...) -> Done, against the server."""

    def run(command, *words, **options):
        return eunomia(command, "--host", f"unix:{server.socket}", *words, **options)

    return run


class Attached:
    """``eunomia attach`` that runs; its table's heading says that rows come."""

    def __init__(self, where: Path, *words: str) -> None:
        command = [EUNOMIA, "attach", "--host", f"unix:{where}", *words]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        assert self.process.stdout is not None
        self.lines: Iterator[str] = iter(self.process.stdout)
        self.heading = next(self.lines)

    def until(self, pattern: str) -> list[str]:
        """Read up to a line that matches."""
        found = []
        for line in self.lines:
            found.append(line)
            if re.search(pattern, line):
                return found
        raise AssertionError(f"no {pattern} in {found}: {self.process.stderr.read()}")

    def end(self, how: int | None = signal.SIGINT) -> tuple[int, list[str], str]:
        """Return the exit code, the rest of stdout, and stderr."""
        if how is not None:
            self.process.send_signal(how)
        out, err = self.process.communicate()
        return self.process.returncode, out.splitlines(), err


def script(directory: Path, name: str) -> Path:
    """Return a program of a name of its own, so that its rows are told apart."""
    path = directory / name
    path.write_text("#!/bin/true\n")
    path.chmod(0o755)
    return path


def ready(process: list[str], directory: Path) -> "subprocess.Popen[str]":
    """Start a run, and wait until it is attached."""
    told = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    told.bind(str(directory / "run-notify"))
    told.settimeout(0.2)
    run = subprocess.Popen(
        process, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        env={**os.environ, "NOTIFY_SOCKET": str(directory / "run-notify")},
    )  # fmt: skip
    while True:
        try:
            assert told.recv(64) == b"READY=1"
            return run
        except TimeoutError:
            assert run.poll() is None, run.communicate()


def without_time(lines: list[str]) -> list[str]:
    return [line.rstrip().partition(" ")[2] for line in lines]


def test_attach_shows_the_table_that_run_shows(remote, server, tmp_path):
    assert remote("start", "process", "--streams", "exec", "--comm", "marker").out == "process\n"
    attached = Attached(server.socket, "process")
    words = ["run", "process", "--streams", "exec", "--comm", "marker"]
    run = ready([EUNOMIA, *words], tmp_path)
    program = script(tmp_path, "marker")
    for arguments in (["a"], ["it's", "x=1", "two words"], ["\x1b[31mred", "\n"]):
        subprocess.run([program, *arguments], check=True)
    rows = [attached.until("marker")[-1] for _ in range(3)]
    assert run.stdout is not None
    shown = [next(run.stdout) for _ in range(4)]
    run.send_signal(signal.SIGINT)
    _, ledger = run.communicate()
    code, rest, account = attached.end()
    assert without_time([attached.heading, *rows]) == without_time(shown)
    assert "red" in rows[2]
    assert "\x1b" not in rows[2]
    assert (code, rest) == (0, [])
    assert "process/exec: emitted" in ledger
    assert account == "eunomia: process/exec: received 3, delivered 3, dropped 0\neunomia: process: lost 0\n"
    assert [one["state"] for one in map(json.loads, remote("ps", "-o", "json").out.splitlines())] == ["running"]


def test_attach_as_json_and_csv_has_the_rows_of_the_table(remote, server, tmp_path):
    remote("start", "process", "--streams", "exec", "--comm", "marker", "--id", "p", "--add", "process.argv")
    table = Attached(server.socket, "p", "--columns", "pid,comm,process.argv")
    csv = Attached(server.socket, "p", "-o", "csv", "--columns", "pid,comm,process.argv", "--count", "2")
    chosen = [EUNOMIA, "attach", "--host", f"unix:{server.socket}", "p", "-o", "json", "--count", "2"]
    whole = subprocess.Popen(chosen, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    some = subprocess.Popen([*chosen, "--columns", "pid,process.argv"], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    while json.loads(remote("ps", "-o", "json").out)["readers"] != 4:
        pass
    children = [subprocess.Popen([script(tmp_path, "marker"), "a", "b c"]) for _ in range(2)]
    for child in children:
        child.wait()
    pids = [child.pid for child in children]
    lines = [json.loads(line) for line in whole.communicate()[0].splitlines()]
    assert sorted(row["pid"] for row in lines) == pids
    assert all(row["tracker"] == "p" and row["argv"][-2:] == ["a", "b c"] for row in lines)
    assert [list(json.loads(line)) for line in some.communicate()[0].splitlines()] == [["pid", "process"]] * 2
    code, cells, _ = csv.end(None)
    assert (csv.heading, code) == ("pid,comm,process.argv\n", 0)
    assert sorted(int(cell.partition(",")[0]) for cell in cells) == pids
    assert table.heading.split() == ["PID", "COMM", "PROCESS.ARGV"]
    assert table.until("marker")[-1].rstrip().endswith("a 'b c'")
    table.end()


def test_columns_that_rows_do_not_have_are_refused_with_what_to_do(remote):
    remote("start", "process")
    said = remote("attach", "process", "--columns", "pid,process.argv,container.labels").one_line(2)
    assert said.endswith("come without process.argv, container.labels: start it with --add process.argv,container.labels")
    assert "did you mean 'comm'" in remote("attach", "process", "--columns", "com").one_line(2)
    assert "there is no stream 'x': there are exec, fork, exit" in remote("attach", "process", "--streams", "x").one_line(2)


def test_attach_ends_when_its_tracker_ends(remote, server):
    remote("start", "process")
    attached = Attached(server.socket, "process")
    assert remote("stop", "process").out == "process\n"
    code, _, said = attached.end(None)
    assert code == 0
    assert "eunomia: process: it has stopped\n" in said
    assert remote("attach", "process").one_line(1) == "tracker process has stopped: eunomia logs process says why"


def test_attach_goes_on_after_its_connection_has_dropped(remote, relay, tmp_path):
    between, path = relay
    remote("start", "process", "--streams", "exec", "--comm", "marker")
    attached = Attached(path, "process")
    program = script(tmp_path, "marker")
    for number in range(3):
        subprocess.run([program, f"before-{number}"], check=True)
        assert len(attached.until(f"before-{number}")) == 1
        between.cut()
        subprocess.run([program, f"after-{number}"], check=True)
        assert len(attached.until(f"after-{number}")) == 1
    code, rest, said = attached.end()
    assert (code, rest) == (0, [])
    assert "eunomia: process/exec: received 6, delivered 6, dropped 0\n" in said
    assert "eunomia: process: lost 0, connections that dropped: 3\n" in said


def test_a_reader_that_goes_away_ends_attach_without_an_error(remote, server, tmp_path):
    remote("start", "process", "--streams", "exec", "--comm", "marker")
    attached = Attached(server.socket, "process")
    attached.process.stdout.close()
    program = script(tmp_path, "marker")
    while attached.process.poll() is None:
        subprocess.run([program], check=True)
    assert attached.process.returncode == 0
    assert "Traceback" not in attached.process.stderr.read()


MORE = GOOD.replace("struct event { __u32 pid; char comm[16]; };", "struct event { __u32 pid; char comm[16]; __u32 more; };")
MORE = MORE.replace("bpf_get_current_comm", "event->more = 77; bpf_get_current_comm")


def test_an_object_is_started_updated_and_rolled_back_while_attached(remote, server, compiled, tmp_path):
    first, second = compiled(name="mine.bpf.o"), compiled(MORE, name="more.bpf.o")
    assert remote("start", first, "--set", "wanted_uid=1").out == "mine\n"
    assert remote("start", first).out == "mine-2\n"
    attached = Attached(server.socket, "mine", "--comm", "marker")
    program = script(tmp_path, "marker")
    assert "MORE" not in attached.heading
    subprocess.run([program], check=True)
    attached.until("marker")
    said = remote("update", "mine", second)
    assert re.search(r"mine: generation 2 runs: sha256:[0-9a-f]{64}\n", said.err), said.err
    subprocess.run([program], check=True)
    assert any("MORE" in line for line in attached.until(r"marker.*\b77\b"))
    assert "generation 3 runs" in remote("rollback", "mine").err
    subprocess.run([program], check=True)
    assert "MORE" not in "".join(attached.until("marker")[-2:])
    code, _, account = attached.end()
    assert code == 0
    assert "mine: its object was replaced; events: more is new\n" in account
    assert "mine: its object was replaced; events: no more more\n" in account
    assert "mine/events: received 3, delivered 3" in account
    history = [json.loads(line) for line in remote("history", "mine", "-o", "json").out.splitlines()]
    assert [(g["number"], g["outcome"], g["settings"]) for g in history] == [
        (1, "replaced", {"wanted_uid": "1"}), (2, "replaced", {"wanted_uid": "1"}), (3, "running", {"wanted_uid": "1"}),
    ]  # fmt: skip
    assert history[0]["object"] == history[2]["object"]
    assert [line.split()[1] for line in remote("logs", "mine").out.splitlines()[1:]] == ["started", "updated", "updated"]
    assert "there is no earlier generation 9" in remote("rollback", "mine", "--to", "9").one_line(2)


def test_an_update_that_fails_leaves_the_old_object(remote, compiled):
    from tests.cli.conftest import REFUSED

    remote("start", compiled(), "--id", "x")
    refused = remote("update", "x", compiled(REFUSED, name="bad.bpf.o"))
    assert (refused.code, refused.out) == (2, "")
    assert json.loads(remote("ps", "-o", "json").out)["generation"] == 1


def test_all_trackers_of_a_command_line_start_or_none(remote):
    assert "procss" in remote("start", "process", "procss").one_line(2)
    assert [one["state"] for one in map(json.loads, remote("ps", "-o", "json").out.splitlines())] == ["stopped"]
    assert remote("start", "process", "opensnoop").out == "process\nopensnoop\n"


def test_settings_go_to_the_tracker_that_has_them(remote, compiled):
    object_ = compiled()
    done = remote("start", "syscall", object_, "--set", "latency=0", "--set", "mine.wanted_uid=5", "--map-size", "seen=9")
    assert done.out == "syscall\nmine\n", done.err
    shown = {one["id"]: one["request"] for one in map(json.loads, remote("ps", "-o", "json").out.splitlines())}
    assert shown["syscall"]["settings"] == {"latency": "0"}
    assert (shown["mine"]["settings"], shown["mine"]["map_sizes"]) == ({"wanted_uid": "5"}, {"seen": 9})


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["process", "--set", "x=1"], "--set: no setting 'x'"),
        (["process", "--set", "x"], "--set: 'x' is not of the form NAME=VALUE"),
        (["process", "-o", "table:/tmp/x"], "-o: the server writes json or csv, not 'table'"),
        (["process", "-o", "json"], "-o 'json': name a file of the server's"),
        (["process", "--rotate", "1MB"], "--rotate: it is for files"),
        (["process", "-o", "json:/no/such/file"], "-o: /no/such/file: cannot write to"),
        (["process", "opensnoop", "--id", "x"], "--id: it is for one tracker"),
        (["process", "--id", "Not good"], "--id: "),
        (["process", "--program", "x"], "--program: it is for objects"),
        (["process", "--attach", "x=y"], "--attach: there is no program 'x'"),
        (["process", "--coalesce", "1s"], "--coalesce: no stream of process"),
        (["process", "--pid", "x"], "--pid: 'x' is not a whole number"),
        (["process", "--streams", "x"], "there is no stream 'x'"),
        (["process", "--map-size", "x=1"], "--map-size: there is no map 'x'"),
        (["process", "--add", "x"], "--add: there is no column 'x'"),
        (["process", "--comm", ""], "--comm: it is empty"),
        (["procss"], "procss"),
        (["oci://registry.example/x:1"], "`eunomia pull` it here"),
    ],
)  # fmt: skip
def test_a_wrong_option_is_named(remote, words, said):
    assert said in remote("start", *words).one_line(2)
    assert remote("ps", "-o", "json").out == ""


def test_rows_go_to_a_file_of_the_server(remote, tmp_path):
    remote("start", "process", "-o", "json:rows.json", "--comm", "marker", cwd=tmp_path)
    subprocess.run([script(tmp_path, "marker")], check=True)
    remote("stop", "process")
    assert {json.loads(line)["comm"] for line in (tmp_path / "rows.json").read_text().splitlines()} == {"marker"}


def test_several_are_stopped_and_those_that_are_not_there_are_named(remote):
    remote("start", "process", "opensnoop")
    done = remote("stop", "process", "none", "opensnoop")
    assert (done.code, done.out, done.err) == (1, "process\nopensnoop\n", "eunomia: there is no tracker none\n")
    table = remote("ps").out.splitlines()
    assert table[0].split() == ["ID", "KIND", "STATE", "GENERATION", "STARTED", "READERS", "STREAMS"]
    assert [line.split()[2] for line in table[1:]] == ["stopped", "stopped"]


def test_contexts_name_servers_and_their_tokens(eunomia, over_tls, tmp_path):
    url, certificate, token = over_tls
    (tmp_path / "token").write_text(f"{token}\n")
    (tmp_path / "eunomia").mkdir()
    file = tmp_path / "eunomia/config.toml"
    file.write_text(
        f'default = "here"\n[contexts.here]\nurl = "{url}"\ntoken_file = "{tmp_path}/token"\nca = "{certificate}"\n'
    )
    environment = {"XDG_CONFIG_HOME": str(tmp_path)}
    assert eunomia("start", "process", environment=environment).out == "process\n"
    said = eunomia("ps", "--host", "here", environment=environment | {"EUNOMIA_TOKEN": "other"}).one_line(1)
    assert said == "the token is not known: a token comes from --token-file, $EUNOMIA_TOKEN or a context"
    words = ["ps", "-o", "json", "--host", "here", "--token-file", tmp_path / "token"]
    assert json.loads(eunomia(*words, environment=environment | {"EUNOMIA_TOKEN": "other"}).out)["id"] == "process"
    said = eunomia("ps", "--host", "there", environment=environment).one_line(2)
    assert said.startswith(f"there is no context 'there' in {file}: there are here")
    assert "its certificate is not trusted" in eunomia("ps", "--host", url).one_line(1)
    for text, wrong in (
        ("x = 1", "there is no key 'x'"), ("[contexts.a]\nurl = 1", "contexts.a.url: it is a text"),
        ("[contexts.a]\nuri = ''", "contexts.a.uri: there are url"), ("[", "config.toml: "),
        ("[contexts.a]", "contexts.a has no url"), ("contexts = 1", "contexts are tables"),
    ):  # fmt: skip
        file.write_text(text)
        assert wrong in eunomia("ps", environment=environment).one_line(2)


def test_without_a_server_the_error_says_how_to_start_one(eunomia, tmp_path):
    where = f"unix:{tmp_path}/none"
    for words in (["ps"], ["start", "process"], ["stop", "x"], ["attach", "x"], ["update", "x"], ["logs", "x"]):
        said = eunomia(*words, "--host", where).one_line(1)
        assert said == f"no server listens on {tmp_path}/none: start it with: sudo eunomia server"
    assert "token file /none" in eunomia("ps", "--host", where, "--token-file", "/none").one_line(2)


def test_users_without_rights_are_told_so(remote, server):
    server.socket.parent.chmod(0o755)
    for above in server.socket.parent.parents:
        if above != Path("/"):
            above.chmod(above.stat().st_mode | 0o055)
    assert "is its owner's alone: use sudo" in remote("ps", nobody=True).one_line(1)


def test_trackers_hosts_and_objects_are_completed(remote, server, compiled, tmp_path, monkeypatch):
    remote("start", "process", "opensnoop")
    where = f"--host unix:{server.socket}"
    assert set(complete(f"eunomia stop {where} ")) == {"process", "opensnoop"}
    assert complete(f"eunomia attach {where} pro") == ["process"]
    compiled()
    assert complete(f"eunomia update {where} process ./m", cwd=tmp_path) == ["./mine.bpf.o"]
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    (tmp_path / "eunomia").mkdir()
    (tmp_path / "eunomia/config.toml").write_text('[contexts.shop]\nurl = "https://x"\n')
    assert complete("eunomia ps --host ") == ["shop"]
