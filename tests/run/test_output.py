# SPDX-License-Identifier: BSD-2-Clause
"""What reaches the reader: valid rows in order, harmless text, and an end when it is time."""

import csv
import fcntl
import io
import json
import os
import pty
import re
import struct
import subprocess
import termios
import threading
import time

import pytest

RFC3339 = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{9}Z")
# ESC sequences, a forged line, a C1 CSI as UTF-8 and as a bare byte, invalid UTF-8, direction marks, a tab
HOSTILE = b"a\x1b[2J\x1b]0;x\x07b\nforged row\r\xc2\x9b31mc\x9b\xff\xfe\xe2\x80\xaed\te\x7f"
RAW = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u2028-\u202e\u2066-\u2069]")


@pytest.fixture
def busy():
    """Processes start and end all the while."""
    process = subprocess.Popen(["sh", "-c", "while :; do /bin/true; sleep 0.02; done"], start_new_session=True)
    yield process
    process.kill()
    process.wait()


def flat(row):
    return all(not isinstance(v, dict) for k, v in row.items() if k not in {"container", "pod"})


def test_json_of_several_trackers_is_one_object_a_line_in_the_order_of_time(run, busy):
    ended = run("process", "opensnoop", "syscall", "-o", "json", "--duration", "1s", "--interval", "300ms")
    assert ended.code == 0
    rows = ended.rows
    assert {(r["tracker"], r["stream"]) for r in rows} == {
        ("process", "exec"), ("process", "fork"), ("process", "exit"), ("opensnoop", "open"), ("syscall", "syscall"),
    }  # fmt: skip
    for row in rows:
        assert list(row)[:3] == ["time", "tracker", "stream"]
        assert RFC3339.fullmatch(row["time"])
        assert row["identity"] in {"host", "resolved", "pending", "unknown"}
        assert flat(row)
        if "container" in row:
            assert set(row["container"]) == {"id", "name", "image", "runtime"}
    times = [r["time"] for r in rows if r["stream"] in {"exec", "fork", "exit"} and r["ppid"] == busy.pid]
    assert times == sorted(times)


def test_a_life_is_told_in_its_order(start, worker):
    calls = worker("for _ in range(20): os.waitpid(os.posix_spawn('/bin/true', ['true'], {}), 0)")
    running = start("process", "-o", "json").attached()
    calls.go()
    rows = [r for r in running.end().rows if calls.pid in (r["pid"], r["ppid"])]
    lives = {}
    for row in rows:
        lives.setdefault(row.get("child_pid", row["pid"]), []).append(row["stream"])
    lives.pop(calls.pid, None)
    assert len(lives) == 20
    assert set(map(tuple, lives.values())) == {("fork", "exec", "exit")}


def test_csv_has_one_header_and_parses(run, busy):
    ended = run("process", "-o", "csv", "--duration", "500ms")
    rows = list(csv.reader(io.StringIO(ended.out.decode(), newline=""), strict=True))
    assert rows[0][:3] == ["time", "tracker", "stream"]
    assert len({len(row) for row in rows}) == 1
    assert sum(row == rows[0] for row in rows) == 1
    assert len(rows) > 3


def test_columns_are_shown_alone_and_in_their_order(run, busy):
    chosen = ["comm", "pid", "identity"]
    for row in run("process", "-o", "json", "--columns", "comm,pid,identity", "--duration", "500ms").rows:
        assert list(row) == chosen
    out = run("process", "-o", "csv", "--columns", "comm,pid,identity", "--duration", "500ms").out.decode()
    assert out.splitlines()[0] == "comm,pid,identity"
    assert len(out.splitlines()) > 3


def test_duration_ends_it_in_time(run):
    begun = time.monotonic()
    assert run("process", "--duration", "1500ms", stdout=subprocess.DEVNULL).code == 0
    assert 1.5 <= time.monotonic() - begun < 3


def test_interval_says_how_often_tables_are_shown(start, worker):
    calls = worker("import time\nfor _ in range(40): os.getppid(); time.sleep(0.03)")
    running = start("syscall", "-o", "json", "--pid", str(calls.pid), "--interval", "300ms").attached()
    calls.go()
    times = {r["time"] for r in running.end().rows if r["syscall"] == "getppid"}
    assert 3 <= len(times) <= 7


def test_a_file_is_rotated_and_no_row_is_lost_or_torn(start, worker, tmp_path):
    calls = worker("for _ in range(1500): os.close(os.open('/dev/null', 0))")
    path = tmp_path / "rows"
    running = start(
        "opensnoop", "-o", "json", "--pid", str(calls.pid), "--output", str(path), "--rotate", "100kB"
    ).attached()
    calls.go()
    ended = running.end()
    files = sorted(tmp_path.iterdir())
    assert len(files) > 3
    assert all(f.stat().st_size <= 100_000 for f in files)
    rows = [json.loads(line) for f in files for line in f.read_text().splitlines()]
    assert len(rows) == 1500 == ended.ledger["opensnoop/open"]["delivered"]


@pytest.mark.parametrize("form", ["table", "json", "csv"])
def test_a_closed_pipe_ends_it_quietly(start, busy, form):
    running = start("process", "-o", form)
    running.process.stdout.read(1)
    running.process.stdout.close()
    code = running.process.wait(10)
    err = running.process.stderr.read().decode()
    assert code == 0
    assert "Traceback" not in err
    assert err.count("\n") == 3, "the ledger and nothing else"


@pytest.mark.parametrize("form", ["table", "json", "csv"])
def test_names_from_outside_can_neither_move_the_cursor_nor_forge_a_line(start, tmp_path, form):
    path = os.fsencode(tmp_path) + b"/" + HOSTILE
    code = f"import os, sys; sys.stdin.read(); os.open({path!r}, os.O_CREAT)"
    code += f"; open('/proc/self/comm', 'wb').write({HOSTILE[:15]!r})"
    code += f"; os.chdir(os.fsencode({str(tmp_path)!r})); os.execv('/bin/true', [{HOSTILE!r}, {HOSTILE!r}])"
    victim = subprocess.Popen(["/usr/bin/python3", "-c", code], stdin=subprocess.PIPE)
    running = start("process", "opensnoop", "-o", form, "--pid", str(victim.pid)).attached()
    victim.communicate(b"")
    ended = running.end()
    text = ended.out.decode()  # valid UTF-8 throughout
    assert "forged row" in text
    assert not RAW.search(text.replace("\r\n", "\n") if form == "csv" else text)
    if form == "json":
        assert any(r.get("argv", [""])[0].startswith("a\x1b[2J") for r in ended.rows)
    else:
        assert not [line for line in text.splitlines() if line.startswith("forged")]
    if form == "csv":
        rows = list(csv.reader(io.StringIO(text, newline=""), strict=True))
        assert len({len(row) for row in rows}) == 1


class Terminal:
    """A terminal of a given size that keeps what was written to it."""

    def __init__(self, columns: int) -> None:
        self.ours, self.theirs = pty.openpty()
        fcntl.ioctl(self.theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
        self.shown = b""
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        try:
            while data := os.read(self.ours, 65536):
                self.shown += data
        except OSError:
            pass

    def lines(self) -> list[str]:
        os.close(self.theirs)
        self._reader.join(5)
        os.close(self.ours)
        return self.shown.decode().replace("\r\n", "\n").splitlines()


@pytest.mark.parametrize("columns", [80, 40])
def test_a_terminal_gets_no_line_wider_than_it_is_and_colours(start, busy, columns):
    terminal = Terminal(columns)
    environment = {k: v for k, v in os.environ.items() if k not in {"NO_COLOR", "COLUMNS"}} | {"TERM": "xterm"}
    running = start("process", "opensnoop", "--duration", "500ms", stdout=terminal.theirs, env=environment)
    assert running.wait().code == 0
    lines = terminal.lines()
    plain = [re.sub(r"\x1b\[\d*m", "", line) for line in lines]
    assert len(plain) > 3
    assert max(map(len, plain)) <= columns
    assert any("\x1b[" in line for line in lines)


def test_colours_are_for_terminals_alone_and_only_where_they_are_welcome(start, busy):
    assert b"\x1b" not in start("process", "--duration", "500ms").wait().out
    terminal = Terminal(80)
    running = start(
        "process", "--duration", "500ms", stdout=terminal.theirs, env={**os.environ, "NO_COLOR": "1", "TERM": "xterm"}
    )
    running.wait()
    assert not any("\x1b" in line for line in terminal.lines())


# A rough machine


def test_it_needs_no_tracefs_mounted(run):
    ended = run("opensnoop", "-o", "json", "--duration", "500ms",
                wrap=("unshare", "-m", "sh", "-c", "umount -l /sys/kernel/tracing /sys/kernel/debug 2>/dev/null; "
                      'exec "$@"', "sh"))  # fmt: skip
    assert ended.code == 0
    assert ended.ledger


def test_it_runs_without_home_locale_and_standard_input(run, busy):
    closing = ("env", "-i", "LANG=C", "sh", "-c", 'exec "$@" <&-', "sh")
    assert run("process", "-o", "json", "--duration", "500ms", wrap=closing).rows


def test_a_closed_standard_output_is_refused(run):
    run("process", "--duration", "500ms", wrap=("sh", "-c", 'exec "$@" >&-', "sh")).refused(1, "standard output is closed")


def test_a_closed_standard_error_costs_the_ledger_and_no_row(start, busy):
    ended = start("process", "-o", "json", "--duration", "500ms", wrap=("sh", "-c", 'exec "$@" 2>&-', "sh")).wait()
    assert ended.code == 0
    assert ended.rows


def test_it_runs_in_a_directory_that_is_gone(run, busy, tmp_path):
    gone = ("sh", "-c", f'mkdir {tmp_path}/x && cd {tmp_path}/x && rmdir {tmp_path}/x && exec "$@"', "sh")
    ended = run("process", "-o", "json", "--duration", "500ms", wrap=gone)
    assert ended.code == 0
    assert ended.rows


def test_it_runs_where_nothing_can_be_written(run, busy):
    read_only = ("unshare", "-m", "sh", "-c", 'mount -o remount,bind,ro / && exec "$@"', "sh")
    ended = run("process", "-o", "json", "--duration", "500ms", wrap=read_only)
    assert ended.code == 0
    assert ended.rows


def test_a_file_system_that_is_full_is_said_and_keeps_whole_rows(start, worker, tmp_path):
    calls = worker("for _ in range(3000): os.close(os.open('/dev/null', 0))")
    full = (
        "unshare", "-m", "sh", "-c",
        f'mount -t tmpfs -o size=64k none {tmp_path} && "$@"; c=$?; cat {tmp_path}/rows; exit $c', "sh",
    )  # fmt: skip
    running = start("opensnoop", "-o", "json", "--pid", str(calls.pid), "--output", str(tmp_path / "rows"),
                    "--duration", "2s", wrap=full)  # fmt: skip
    time.sleep(1.2)
    calls.go()
    ended = running.wait()
    entry = ended.ledger["opensnoop/open"]
    assert ended.code == 0
    assert ended.err.count("No space left on device; rows are dropped") == 1
    assert entry["dropped_reasons"] == {"No space left on device": entry["dropped"]}
    assert len(ended.rows) == entry["delivered"] > 0
    assert entry["delivered"] + entry["dropped"] == 3000


